"""Search and reranking by a chat model, with LlamaIndex."""

import json

from llama_index.core import QueryBundle, Settings, SimpleDirectoryReader, VectorStoreIndex
from llama_index.core.postprocessor import LLMRerank
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

Settings.llm = OpenAI(model="gpt-4o-mini")
Settings.embed_model = OpenAIEmbedding(model="text-embedding-3-small")
index = VectorStoreIndex.from_documents(SimpleDirectoryReader("documents").load_data())
question = QueryBundle("Which bread is baked without yeast?")
candidates = index.as_retriever(similarity_top_k=6).retrieve(question)
found = LLMRerank(top_n=3).postprocess_nodes(candidates, question)
print(json.dumps([one.metadata["file_name"] for one in found]))
