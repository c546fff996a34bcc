"""Two daemons on one PostgreSQL send each chat to the same one of several servers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests import postgres
from tests.daemon import Daemon
from tests.server.daemons import answered, end, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CHATS = 6
TURNS = 5


class Handler(BaseHTTPRequestHandler):
    """Answers a chat, and reports the length of its longest earlier prompt as cached tokens."""

    protocol_version = "HTTP/1.1"
    prompts: list[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = json.dumps(body["messages"])[:-1]
        cached = max((len(earlier) for earlier in self.prompts if prompt.startswith(earlier)), default=0)
        self.prompts.append(prompt)
        answer = {
            "id": "a",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}
            ],
            "usage": {
                "prompt_tokens": len(prompt),
                "completion_tokens": 1,
                "total_tokens": len(prompt) + 1,
                "prompt_tokens_details": {"cached_tokens": cached},
            },
        }
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Write no log."""


@contextmanager
def server() -> Iterator[str]:
    """Yield the address of a server with its own prompt cache."""
    handler = type("CachingHandler", (Handler,), {"prompts": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}/v1#m"
        http_server.shutdown()
        thread.join()


def cached_tokens(daemons: tuple[Daemon, ...], name: str, chats: int = CHATS) -> list[int]:
    """Return the cached tokens of each turn of some chats, whose turns go to the daemons in rotation."""
    counts = []
    for number in range(chats):
        messages = [{"role": "user", "content": f"{number} {name}"}]
        for turn in range(TURNS):
            daemon = daemons[turn % len(daemons)]
            answer = answered(
                daemon, "POST", "/v1/chat/completions", json={"model": "large", "messages": messages}
            )
            counts.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
            messages += [answer["choices"][0]["message"], {"role": "user", "content": f"turn {turn}"}]
    return counts


def test_a_chat_over_two_daemons_has_the_cached_tokens_of_one(tmp_path: Path) -> None:
    """ai-dynamo/dynamo#11035, verl-project/verl#7666."""
    with ExitStack() as stack:
        database = stack.enter_context(postgres.running()).new()
        sources = [stack.enter_context(server()) for _ in range(3)]
        configuration = json.dumps(
            {"models": [{"name": "large", "source": sources[0], "replicas": sources[1:]}]}
        )
        pair = tuple(start(tmp_path, name, database, configuration) for name in "ab")
        stack.callback(end, *pair)
        cached_tokens(pair[:1], "at first", chats=1)  # the daemons have different pasts
        alternating = cached_tokens(pair, "over both")
        single = cached_tokens(pair[:1], "over one ")
        turns = list(zip(alternating, single, strict=True))
        for begin in range(0, len(turns), TURNS):
            for over_both, over_one in turns[begin + 1 : begin + TURNS]:
                assert over_both == over_one > 0
