"""Train an embedding model and a reranker on the questions to a store, and search with each of them."""

from pathlib import Path

import tiny_models

from portico import Client
from portico.schemas.fine_tuning import TuningJob

QUESTIONS = Path("questions.jsonl")
TEXTS = [*Path("documents").glob("*.md"), QUESTIONS]
ASKED = "Whom does one call at Cedar Bay?"


def train(client, base, method):
    """The result of a training on the questions to the store."""
    job = client.tuning.create(
        base,
        QUESTIONS,
        store="harbours",
        method=method,
        hyperparameters={"n_epochs": 30},
        recipe={"learning_rate": 3e-3},
        seed=7,
    )
    for event in client.tuning.follow(job.id):
        if isinstance(event, TuningJob):
            job = event
    if job.status != "succeeded":
        raise SystemExit(f"{method}: {job.status}. {job.error}")
    found = job.evaluation
    print(f"{method}: better on {found.questions} questions that were held back: {found.better}")
    return job.fine_tuned_model


def search(client, **options):
    """The file and the heading of the best passage."""
    best = client.search("harbours", ASKED, **options).passages[0]
    return f"{best.filename} · {best.place.heading[-1]}"


with Client() as client:
    known = {deployment.name for deployment in client.deployments.list()}
    for name, task in (("finder", "embedding"), ("judge", "rerank")):
        if name not in known:
            folder = tiny_models.make(Path(name), TEXTS, reranker=task == "rerank")
            client.deployments.add(name, str(folder), engine="transformers", task=task)

    embedding = train(client, "finder", "embedding")
    client.stores.change("harbours", embedding_model=embedding)
    for run in client.runs.list():
        if run.kind == "embed":
            client.runs.wait(run.id)
    print("by vectors:", search(client, ranker="vector"))

    reranker = train(client, "judge", "rerank")
    print("reranked:  ", search(client, ranker="lexical", reranker=reranker))
