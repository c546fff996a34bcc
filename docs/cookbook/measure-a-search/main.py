"""Measure how well a store finds what it should: recall and nDCG on questions of your own."""

import json
from pathlib import Path

from portico import Client

CRITERIA = [
    {"type": "retrieval", "name": "recall", "metric": "recall", "k": 2, "relevant": "item.files"},
    {"type": "retrieval", "name": "ndcg", "metric": "ndcg", "k": 3, "relevant": "item.files"},
]

with Client() as client:
    questions = [json.loads(line) for line in Path("questions.jsonl").read_text("utf-8").splitlines()]
    test = client.evals.create("finding", CRITERIA)
    for ranker in ("lexical", "vector"):
        source = {"store": "bakery", "query": "{{item.question}}", "search_params": {"ranker": ranker}}
        run = client.evals.wait(client.evals.run(test.id, source, questions))
        scores = ", ".join(f"{one.testing_criteria} {one.mean:.2f}" for one in run.criteria)
        print(f"{ranker}: {scores}")
        for output in client.evals.outputs(test.id, run.id, status="fail"):
            print("  missed:", output.datasource_item["question"])
    client.evals.remove(test.id)
