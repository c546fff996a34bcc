"""One model in memory and several adapters on it: each is a model name, and one is added while it serves."""

from pathlib import Path

from portico import Client

QUESTION = "Where is my parcel?"

with Client() as client:
    for name in ("clerk", "polite", "terse"):
        print(f"{name:8}", client.chat(QUESTION, name).read().text)

    client.adapters.add("clerk", Path("adapters/pirate.yaml").resolve(), "pirate", scale=0.8)
    print(f"{'pirate':8}", client.chat(QUESTION, "pirate").read().text)
    for adapter in client.adapters.list("clerk"):
        print(" ", adapter.name, adapter.state, adapter.scale)
    loaded = [model.name for model in client.deployments.list() if model.pid]
    print("processes:", loaded)

    client.models.alias("default", "terse")
    print("default ", client.chat(QUESTION).read().text)
    client.adapters.remove("pirate")
