"""Evaluate a model, train it on examples, evaluate again, and move the alias only if it became better."""

from pathlib import Path

from portico import Client
from portico.schemas.fine_tuning import TuningJob

ITEMS = [
    {"ask": "Who keeps the light?", "wanted": "Mara"},
    {"ask": "When is the lamp lit?", "wanted": "dusk"},
    {"ask": "How high is the tower?", "wanted": "31"},
    {"ask": "How often does the tide turn?", "wanted": "twice"},
]
RIGHT = {
    "type": "string_check",
    "name": "right",
    "operation": "ilike",
    "input": "{{sample.output_text}}",
    "reference": "{{item.wanted}}",
}


def score(client, test, model):
    """The share of the items that a model answers right."""
    source = {"model": model, "messages": [{"role": "user", "content": "{{item.ask}}"}]}
    return client.evals.wait(client.evals.run(test.id, source, ITEMS)).score


with Client() as client:
    test = client.evals.create("lighthouse", [RIGHT])
    before = score(client, test, "keeper")
    print(f"before: {before:.2f}", client.chat("Where is the key?", "keeper").read().text)

    job = client.tuning.create("base", Path("examples.jsonl"), suffix="keeper", seed=7)
    losses = []
    for event in client.tuning.follow(job.id):
        if isinstance(event, TuningJob):
            job = event
        elif event.type == "metrics":
            losses.append(event.data["train_loss"])
    print(f"{job.status}; the loss fell: {losses[-1] < losses[0]}")

    after = score(client, test, job.fine_tuned_model)
    print(f"after: {after:.2f}")
    if after > before:
        client.models.alias("keeper", job.fine_tuned_model)
    print("keeper:", client.chat("Where is the key?", "keeper").read().text)
