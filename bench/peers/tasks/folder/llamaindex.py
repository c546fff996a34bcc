"""Chat over a folder with LlamaIndex."""

import json

from llama_index.core import Settings, SimpleDirectoryReader, VectorStoreIndex
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

QUESTIONS = (
    "At how many degrees is bread baked?",
    "How many mooncakes are made?",
    "When does the bakery close?",
)

Settings.llm = OpenAI(model="gpt-4o-mini")
Settings.embed_model = OpenAIEmbedding(model="text-embedding-3-small")
index = VectorStoreIndex.from_documents(SimpleDirectoryReader("documents").load_data())
engine = index.as_query_engine(similarity_top_k=3)
answers = []
for question in QUESTIONS:
    answer = engine.query(question)
    answers.append({"answer": str(answer), "source": answer.source_nodes[0].metadata["file_name"]})
print(json.dumps(answers))
