"""Search and reranking by a chat model, with LangChain."""

import json
from pathlib import Path

from langchain.chat_models import init_chat_model
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import LLMListwiseRerank
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings

embeddings = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False)
store = InMemoryVectorStore(embeddings)
paths = sorted(Path("documents").glob("*.md"))
store.add_documents([Document(path.read_text(), metadata={"source": path.name}) for path in paths])
retriever = ContextualCompressionRetriever(
    base_compressor=LLMListwiseRerank.from_llm(init_chat_model("openai:gpt-4o-mini"), top_n=3),
    base_retriever=store.as_retriever(search_kwargs={"k": 6}),
)
found = retriever.invoke("Which bread is baked without yeast?")
print(json.dumps([document.metadata["source"] for document in found]))
