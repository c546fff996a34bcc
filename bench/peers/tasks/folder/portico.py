"""Chat over a folder with Portico."""

import json
from pathlib import Path

from portico import Client

QUESTIONS = (
    "At how many degrees is bread baked?",
    "How many mooncakes are made?",
    "When does the bakery close?",
)

with Client() as client:
    bakery = {"name": "bakery", "folder": "documents", "answers": "write"}
    client.apply({"stores": [bakery]}, folder=str(Path.cwd()))
    synced = client.runs.wait(client.stores.sync("bakery"))
    if synced.error:
        raise SystemExit(synced.error.message)
    answers = []
    for question in QUESTIONS:
        answer = client.ask(question, app="bakery").read()
        answers.append({"answer": answer.text, "source": answer.passages[0].filename})
print(json.dumps(answers))
