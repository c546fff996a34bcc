"""Chat over a folder with LangChain."""

import json
from pathlib import Path

from langchain.chat_models import init_chat_model
from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings

QUESTIONS = (
    "At how many degrees is bread baked?",
    "How many mooncakes are made?",
    "When does the bakery close?",
)

embeddings = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False)
store = InMemoryVectorStore(embeddings)
paths = sorted(Path("documents").glob("*.md"))
store.add_documents([Document(path.read_text(), metadata={"source": path.name}) for path in paths])
prompt = ChatPromptTemplate(
    [
        ("system", "Answer the question from this context alone.\n\n{context}"),
        ("human", "{question}"),
    ]
)
chain = prompt | init_chat_model("openai:gpt-4o-mini")
answers = []
for question in QUESTIONS:
    found = store.similarity_search(question, k=3)
    context = "\n\n".join(document.page_content for document in found)
    answer = chain.invoke({"context": context, "question": question})
    answers.append({"answer": answer.content, "source": found[0].metadata["source"]})
print(json.dumps(answers))
