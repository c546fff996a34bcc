"""Two retrievers side by side, a reranker, a formatter and a model: a flow that is deployed and asked by name."""

import os

from openai import OpenAI

from portico import Client
from portico.flow import bind, input, llm, parallel, pipeline, rerank, retrieve

rag = pipeline(
    found=parallel(
        retrieve("papers", ranker="vector", top_k=2),
        retrieve("papers", ranker="lexical", top_k=2),
        join="sum",
    ),
    best=rerank("ranker", query=input, top_k=1),
    context=bind(lambda nodes, query: {"text": nodes[0]["text"], "query": query}, query=input),
    answer=llm("default", system="Answer from this text: {text}", user="{query}"),
)

with Client() as client:
    running = client.start(rag, "何为天道？")
    print("answer:", running.result())
    steps = client.runs.trace(running.id)
    print("steps: ", [step.kind for step in steps if step.path.count(".") == 1])

    client.apps.deploy("rag", rag)
    url = os.environ.get("PORTICO_URL", "http://127.0.0.1:8642")
    openai = OpenAI(base_url=f"{url}/v1", api_key="none")
    said = [{"role": "user", "content": "何为天道？"}]
    print(
        "as a model:", openai.chat.completions.create(model="rag", messages=said).choices[0].message.content
    )
