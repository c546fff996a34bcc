"""Answers from a folder of documents: two retrievers, a reranker, a formatter, a model."""

from portico import Client
from portico.flow import bind, input, llm, parallel, pipeline, rerank, retrieve

PROMPT = "你将扮演一个人工智能问答助手的角色，完成一项对话任务。在这个任务中，你需要根据给定的上下文以及问题，给出你的回答。"

rag = pipeline(
    found=parallel(
        retrieve("papers", group="sentences", ranker="vector", top_k=3),
        retrieve("papers", group="CoarseChunk", ranker="lexical", threshold=0.003, top_k=3),
        join="sum",
    ),
    best=rerank("reranker", query=input, top_k=1),
    formatter=bind(
        lambda nodes, query: {"context_str": "".join(n["text"] for n in nodes), "query": query}, query=input
    ),
    answer=llm("default", system=PROMPT + "\n\n{context_str}", user="{query}"),
)

if __name__ == "__main__":
    client = Client()
    client.stores.add("papers", folder="papers")
    client.stores.add_group(
        "papers", "sentences", chunking={"type": "sentence", "size": 4096, "overlap": 400}
    )
    client.stores.add_group("papers", "CoarseChunk")
    client.apps.deploy("rag", rag)
