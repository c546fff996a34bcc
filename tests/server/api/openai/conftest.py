"""One daemon for all tests of the Responses API, with scripted models, a store, an agent and a third-party server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from openai import OpenAI
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.sandbox.conftest import ENVIRONMENTS, environment
from websockets.sync.client import ClientConnection, connect

__all__ = ["environment"]

STRANGER = Path(__file__).parents[2] / "features" / "mcp_servers" / "stranger.py"

FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 4])\nplt.show()\nprint('drawn')"

COPY = "import os\nopen('copied.txt', 'w').write(open('given.txt').read().upper())\nos.remove('given.txt')"

COMMANDS = [
    "echo one; echo two >&2; exit 3",
    "cat /skills/*/SKILL.md; ls; echo made > made.txt",
    "yes | head -c 100",
]

LOOKS = {
    "there": "https://good.example/news",
    "again": "https://good.example/again",
    "elsewhere": "https://evil.example/?q=1234",
}
"""The addresses that the model requests."""

REPLIES = [
    {
        "match": r"^weather in (\w+)",
        "content": "Let me look.",
        "tool_calls": [{"name": "get_weather", "arguments": {"city": r"\1"}}],
    },
    {
        "match": r"^look up (.+)",
        "times": 1,
        "tool_calls": [{"name": "file_search", "arguments": {"query": r"\1"}}],
    },
    {"match": r"^look up", "content": "It listens on 7419 [1]."},
    {
        "match": r"^sound (.+)",
        "times": 1,
        "tool_calls": [{"name": "search_handbook", "arguments": {"query": r"\1"}}],
    },
    {"match": r"^sound", "content": "It is 7419."},
    {"match": r"^find (.+)", "tool_calls": [{"name": "file_search", "arguments": {"query": r"\1"}}]},
    {
        "match": r"^draw",
        "times": 1,
        "tool_calls": [{"name": "code_interpreter", "arguments": {"code": FIGURE}}],
    },
    {"match": r"^draw", "content": "See figure-1.png."},
    {
        "match": r"^copy it",
        "times": 1,
        "tool_calls": [{"name": "code_interpreter", "arguments": {"code": COPY}}],
    },
    {"match": r"^copy it", "content": "See copied.txt."},
    {
        "match": r"^read it",
        "times": 1,
        "tool_calls": [{"name": "shell", "arguments": {"commands": ["cat copied.txt"]}}],
    },
    {"match": r"^read it", "content": "I have read it."},
    *(
        {
            "match": rf"^paint ({what})",
            "times": 1,
            "tool_calls": [{"name": "image_generation", "arguments": {"prompt": r"\1"}}],
        }
        for what in ("a red cat", "a dog")
    ),
    {"match": r"^paint", "content": "There it is."},
    {
        "match": r"^refund",
        "times": 1,
        "tool_calls": [{"name": "tool_search", "arguments": {"query": "give money back for an order"}}],
    },
    {"match": r"^refund", "times": 1, "tool_calls": [{"name": "shop__refund", "arguments": {"order": "7"}}]},
    {"match": r"^refund", "content": "Refunded."},
    {
        "match": r"^recall",
        "times": 1,
        "tool_calls": [{"name": "tool_search", "arguments": {"query": "echo a text"}}],
    },
    {"match": r"^recall (.+)", "times": 1, "tool_calls": [{"name": "echo", "arguments": {"text": r"\1"}}]},
    {"match": r"^recall", "content": "It was recalled."},
    {
        "match": r"^tides",
        "times": 1,
        "tool_calls": [{"name": "tool_search", "arguments": {"goal": "tides"}}],
    },
    {"match": r"^tides", "times": 1, "tool_calls": [{"name": "get_tides", "arguments": {}}]},
    {"match": r"^tides", "content": "High at noon."},
    {"match": r"^repeat (.+)", "times": 1, "tool_calls": [{"name": "echo", "arguments": {"text": r"\1"}}]},
    {"match": r"^repeat", "content": "It was said again."},
    {"match": r"^utter (.+)", "times": 1, "tool_calls": [{"name": "echo", "arguments": {"text": r"\1"}}]},
    {"match": r"^utter", "content": "It was said again."},
    {
        "match": r"^ask for (bread)",
        "times": 1,
        "tool_calls": [{"name": "echo", "arguments": {"text": r"\1"}}],
    },
    {"match": r"^ask for (salt)", "times": 1, "tool_calls": [{"name": "echo", "arguments": {"text": r"\1"}}]},
    {"match": r"^ask for", "content": "You agreed."},
    {"match": r"^fail (.+)", "times": 1, "tool_calls": [{"name": "fail", "arguments": {}}]},
    {"match": r"^fail", "content": "It failed."},
    {"match": r"^collapse (.+)", "times": 1, "tool_calls": [{"name": "fail", "arguments": {}}]},
    {"match": r"^collapse", "content": "It failed."},
    {
        "match": r"^both",
        "tool_calls": [
            {"name": "calculator", "arguments": {"expression": "6 * 7"}},
            {"name": "get_weather", "arguments": {"city": "Rome"}},
        ],
    },
    *(
        {"match": rf"^{word}", "times": 1, "tool_calls": [{"name": name, "arguments": arguments}]}
        for word, name, arguments in (
            ("list it", "shell", {"commands": COMMANDS, "max_output_length": 20}),
            ("sleep", "shell", {"commands": ["sleep 60", "echo never"], "timeout_ms": 300}),
            ("write it", "apply_patch", {"type": "create_file", "path": "a/b.txt", "diff": "+one\n+two"}),
            ("here I list", "shell", {"commands": ["ls"], "timeout_ms": 1_000}),
            ("here I patch", "apply_patch", {"type": "delete_file", "path": "x"}),
            ("here I run", "local_shell", {"command": ["ls", "-l"], "working_directory": "/tmp"}),
        )
    ),
    {
        "match": r"^change it",
        "times": 1,
        "tool_calls": [
            {
                "name": "apply_patch",
                "arguments": {"type": "create_file", "path": "a/b.txt", "diff": "+one\n+two"},
            },
            {
                "name": "apply_patch",
                "arguments": {"type": "update_file", "path": "a/b.txt", "diff": "@@\n one\n-two\n+zwei"},
            },
            {"name": "apply_patch", "arguments": {"type": "update_file", "path": "no", "diff": "-x"}},
            {"name": "apply_patch", "arguments": {"type": "delete_file", "path": "../etc/passwd"}},
            {"name": "shell", "arguments": {"commands": ["cat a/b.txt"]}},
        ],
    },
    {"match": r"^(list it|sleep|change it|here I)", "content": "It is done."},
    *(
        {
            "match": rf"^send ({n})$",
            "times": 1,
            "tool_calls": [{"name": "send", "arguments": {"text": r"\1"}}],
        }
        for n in range(12)
    ),
    {"match": r"^send", "content": "It is over."},
    *(
        {
            "match": rf"^post {n}$",
            "times": 1,
            "tool_calls": [{"name": "post", "arguments": {"text": str(n)}}],
        }
        for n in range(60)
    ),
    {
        "match": r"^post twice$",
        "times": 1,
        "tool_calls": [{"name": "post", "arguments": {"text": word}} for word in ("ann", "bob")],
    },
    {"match": r"^post", "content": "It is over."},
    *(
        {"match": rf"^look {word}$", "times": 1, "tool_calls": [{"name": "look", "arguments": {"url": url}}]}
        for word, url in LOOKS.items()
    ),
    {"match": r"^look", "content": "It is over."},
    {"match": r"^refuse", "error": {"status": 429, "message": "Too many.", "code": "rate_limit_exceeded"}},
    {"match": r"^break off", "content": "one two three four", "crash": 2},
    {"match": r"^slowly (.+)", "content": r"\1", "interval": 0.05},
    {"match": r"^hang", "content": "one two three", "hang": 2},
    {"match": r"^linger", "content": "It is late. Go to bed. Now go away", "hang": 7},
]

NOTES = [{"match": "Our conversation has become long", "content": "They asked for the port, which is 7419."}]
"""The answer of a model that is asked to summarize a conversation."""


def secret(name: str) -> str:
    """Return the secret of the key with this name."""
    return f"{name}-secret-key-of-the-tests"


def bearer(name: str) -> dict[str, str]:
    """Return the header that presents the key."""
    return {"Authorization": f"Bearer {secret(name)}"}


@contextmanager
def opened(
    harbour: Daemon, key: str = "one", path: str = "/v1/responses", **headers: str
) -> Iterator[ClientConnection]:
    url = harbour.url.replace("http", "ws", 1) + path
    with connect(url, additional_headers={**bearer(key), **headers}, proxy=None) as connection:
        yield connection


KEYS = [
    {"name": "boss", "key": secret("boss"), "scopes": ["admin"]},
    {"name": "one", "key": secret("one"), "scopes": ["chat"]},
    {"name": "two", "key": secret("two"), "scopes": ["chat"]},
]

AGENT = {"portico_agent": 1, "model": "echo"}


@pytest.fixture(scope="session")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that requires keys. Its agent ``desk`` echoes and remembers."""
    home = tmp_path_factory.mktemp("responses")
    docs = home / "handbook"
    docs.mkdir()
    (docs / "port.md").write_text("# Ports\n\nThe Lighthouse daemon listens on port 7419.\n")
    (docs / "bread.txt").write_text("Bread is baked at 230 degrees for forty minutes.\n")
    almanac = home / "almanac"
    almanac.mkdir()
    (almanac / "tides.txt").write_text("High tide is at noon.\n")
    (almanac / "contacts.txt").write_text("The address of the harbour master is jane.doe@example.com.\n")
    configuration = home / "house.yaml"
    models = [
        {"name": "echo", "source": "fake://", "aliases": ["default"]},
        {"name": "clever", "source": "fake://", "parameters": {"script": {"replies": REPLIES}}},
        {
            "name": "quoter",
            "source": "fake://",
            "answers": "quote",
            "parameters": {
                "script": [
                    {
                        "match": "^weather",
                        "tool_calls": [{"name": "get_weather", "arguments": {"city": "Rome"}}],
                    },
                    {"match": "^digits", "content": "1.2.1.2.1"},
                    {
                        "match": ".",
                        "times": 1,
                        "tool_calls": [{"name": "file_search", "arguments": {"query": "1.2.1.2.1"}}],
                    },
                    {"match": ".", "content": '{"port": 7419}'},
                ]
            },
        },
        {"name": "frail", "source": "fake://", "parameters": {"script": {"replies": REPLIES}}},
        {"name": "notary", "source": "fake://", "parameters": {"script": {"replies": NOTES}}},
        {
            "name": "forgetful",
            "source": "fake://",
            "parameters": {"script": {"replies": NOTES}, "context_length": 300},
        },
        {"name": "painter", "source": "fake://", "task": "image"},
        {"name": "narrow", "source": "fake://", "parameters": {"context_length": 12}},
        {
            "name": "small",
            "source": "fake://",
            "parameters": {"script": {"replies": REPLIES}, "context_length": 40},
        },
        {"name": "voice", "source": "fake://", "task": "speech"},
        {
            "name": "ear",
            "source": "fake://",
            "task": "transcription",
            "parameters": {"script": [{"match": r"speech\.wav", "content": "Good morning. How are you?"}]},
        },
        {
            "name": "sleeper",
            "source": "fake://",
            "task": "transcription",
            "parameters": {"script": [{"content": "Good morning. And then", "hang": 3}]},
        },
        {
            "name": "stone",
            "source": "fake://",
            "task": "transcription",
            "parameters": {"script": [{"match": r"speech\.wav", "content": ""}]},
        },
        {"name": "vectors", "source": "fake://", "task": "embedding", "parameters": {"dimensions": 8}},
    ]
    agents = [{"name": "desk", **AGENT}]
    apps = [{"name": "chatty", "flow": {"step": {"op": "llm", "model": "echo", "history": True}}}]
    prompts = [
        {
            "name": "greet",
            "arguments": [{"name": "who", "required": True}],
            "messages": [{"role": "user", "content": "Greet {who}"}],
        }
    ]
    tools = [
        {"name": "send", "command": ["echo", "sent {text}"], "approval": "refuse"},
        {"name": "post", "command": ["echo", "posted {text}"]},
        {"name": "look", "command": ["echo", "looked at {url}"], "read_only": True},
    ]
    stores = [{"name": "almanac", "folder": str(almanac)}]
    guards = [{"name": "pii", "on": "quoter", "detect": "pii", "where": "output", "action": "mask"}]
    definitions = {
        "models": models, "agents": agents, "apps": apps, "prompts": prompts, "tools": tools, "stores": stores,
        "guards": guards, "keys": KEYS,
    }  # fmt: skip
    configuration.write_text(json.dumps(definitions))
    env = {"PORTICO_REQUIRE_KEY": "true", "PORTICO_ENVIRONMENTS": str(ENVIRONMENTS)}
    arguments = ("--file", str(configuration), "--docs", str(docs))
    with daemons.running(home / "data", *arguments, env=env) as running:
        with httpx.Client(base_url=running.url, headers=bearer("boss"), timeout=60) as plain:
            server = {"name": "odd", "command": [sys.executable, str(STRANGER)], "allow": ["echo", "fail"]}
            plain.post(
                "/api/mcp/servers", json=server
            ).raise_for_status()  # the server runs when this call returns
            for run in plain.get("/api/status").json()["startup"]:
                plain.get(f"/api/runs/{run}/events")
        yield running


@pytest.fixture(scope="session")
def as_key(harbour: Daemon) -> Iterator[Callable[[str], OpenAI]]:
    """Return a function that creates OpenAI's client in strict mode for a key by name."""
    clients: dict[str, OpenAI] = {}

    def client(name: str) -> OpenAI:
        if name not in clients:
            clients[name] = OpenAI(
                base_url=f"{harbour.url}/v1",
                api_key=secret(name),
                max_retries=0,
                _strict_response_validation=True,
            )
        return clients[name]

    yield client
    for open_client in clients.values():
        open_client.close()


@pytest.fixture(scope="session")
def client(as_key: Callable[[str], OpenAI]) -> OpenAI:
    """The admin's client."""
    return as_key("boss")
