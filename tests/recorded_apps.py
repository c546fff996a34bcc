"""Apps of every kind with a scripted model, and recorded runs of them: for tests and a benchmark of replays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from portico import Client
from portico.agent import Agent
from portico.flow import (
    agent,
    approve,
    code,
    flow,
    intent,
    item,
    llm,
    output,
    parallel,
    pipeline,
    retrieve,
    subflow,
    switch,
    template,
    tool,
    warp,
)
from portico.testing import daemonless
from portico.wire import Asked

TURNS = [f"answer {number}" for number in range(500)]
"""The model never gives the same answer twice, so a replay that called it would differ."""

SCRIPT: list[dict[str, Any]] = [
    {"match": "outline of (\\w+)", "content": [json.dumps({"value": ["Flour", word]}) for word in TURNS]},
    {"system": "clerk", "result": "(\\d+)", "content": [f"\\1 {word}" for word in TURNS]},
    {"system": "clerk", "tool_calls": [{"name": "calculator", "arguments": {"expression": "6*7"}}]},
    {"system": "librarian", "result": "port", "content": TURNS},
    {"system": "librarian", "tool_calls": [{"name": "search_notes", "arguments": {"query": "port"}}]},
    {"match": "(?s)intent.*draw", "content": "drawing"},
    {"content": TURNS},
]

QUESTIONS = ("bread", "cheese", "the port", "lighthouse", "draw a duck")


def apps() -> Mapping[str, Any]:
    """Return the deployed flows and agents. Further apps are the chat app of the store, and a configured agent."""
    return {
        "story": flow(
            pipeline(
                titles=llm(user="outline of {topic}", format=list[str]),
                chapters=warp(llm(user="write about {title}").bind(title=item)),
            ),
            name="story",
        ),
        "clerk": Agent(instructions="You are a clerk.", tools=["calculator"], name="clerk"),
        "librarian": Agent(instructions="You are a librarian.", stores=["notes"], name="librarian"),
        "cited": flow(
            pipeline(
                found=retrieve("notes", top_k=2),
                answer=llm(user=template("Use {found}.", found=output("found"))),
            ),
            name="cited",
        ),
        "clock": flow(
            pipeline(
                now=tool("current_time", timezone="UTC"),
                greeting=llm(user=template("It is {now}.", now=output("now"))),
            ),
            name="clock",
        ),
        "router": flow(
            switch({"drawing": llm(user="a drawing of it"), "chat": llm()}, on=intent(["drawing", "chat"])),
            name="router",
        ),
        "desk": flow(pipeline(ask=agent("clerk"), upper=code("lambda text: text.upper()")), name="desk"),
        "review": flow(pipeline(draft=llm(), check=approve("Publish?"), last=llm()), name="review"),
        "pair": flow(parallel(one=llm(), two=llm(), three=subflow("clock")), name="pair"),
    }


NAMES = ("notes", "helper", *apps())
"""All apps: the chat app of the store, a configured agent, and the deployed apps."""


@contextmanager
def serving(folder: Path) -> Iterator[Client]:
    """Yield a client of a daemon with all apps. ``folder`` becomes its store."""
    (folder / "port.md").write_text("The Lighthouse daemon listens on port 7419.\n\nBread needs flour.\n")
    stores = [{"name": "notes", "folder": str(folder)}]
    configuration = {
        "stores": stores,
        "guards": [{"name": "pii", "on": "masked", "detect": ["pii"], "action": "mask"}],
        "agents": [{"name": "helper", "model": "default", "instructions": "You are a helper."}],
    }
    with daemonless(SCRIPT, models={"other": ["another answer"]}, configuration=configuration) as client:
        for run in client.status().startup:
            client.runs.wait(run)
        for name, app in apps().items():
            client.apps.deploy(name, app)
        yield client


def run(client: Client, name: str, value: Any) -> str:
    """Run an app, answer its questions, and return the id of the run."""
    if name == "notes":
        with client.ask(value, "notes") as answer:
            answer.read()
        assert answer.run
        return answer.run
    running = client.apps.start(name, value, session="talk" if name == "helper" else None)
    for event in running.events():
        if isinstance(event, Asked):
            client.questions.answer(event.id, accepted=True)
    assert running.id
    return running.id


def record(client: Client, name: str, value: Any) -> dict[str, Any]:
    """Return the recording of a run, as a file contains it."""
    recording: dict[str, Any] = json.loads(json.dumps(client.runs.recording(run(client, name, value))))
    return recording


def question(name: str, text: str) -> Any:
    """Return a text as the input of an app."""
    return {"topic": text} if name == "story" else text
