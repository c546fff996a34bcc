"""A model that reads perfectly, over OpenAI's API: ``python bench/ideal_reader.py PORT FOLDER``.

It knows the gold answers of the sets in FOLDER and those of the daemon's own test. If a passage of the gold document
in the prompt contains the gold answer, it returns that answer with the passage's number; otherwise it says that the
answer is not in the documents. It knows nothing else, and sees only the prompt.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from answers import DATA, read

TESTED = {
    "When was the mill built?": ("1743",),
    "Who repairs the boats?": ("Jonas Lindqvist",),
    "图书馆几点关门？": ("六点",),
    "谁管理果园？": ("陈志远",),
}
"""Gold answers of the test that decides which models may write; its other questions have no answer."""

_PROMPT = re.compile(
    r"(?:Passages:|文字：)\n(?P<passages>.*)\n\n"
    r"(?:Using only the passages, answer[^:]*: |只用这些文字回答：)(?P<question>.*)\Z",
    re.S,
)
_PASSAGE = re.compile(r"^\[(\d+)\] ([^\n]*)\n", re.M)


@dataclass(frozen=True, slots=True)
class Gold:
    """The answers to a question, each of which is accepted, and the document that contains them; ``""`` for any
    document.
    """

    answers: Sequence[str]
    document: str = ""


def known(folder: Path) -> dict[str, list[Gold]]:
    """Return the gold answers by question; a question may be asked about several documents."""
    found = {question: [Gold(answers)] for question, answers in TESTED.items()}
    for path in sorted(folder.glob("*/answers.jsonl.gz")):
        for asked in read(path.parent).questions:
            found.setdefault(asked.text.strip(), []).append(Gold(asked.answers, asked.document))
    return found


def said(prompt: str, gold: Mapping[str, Sequence[Gold]]) -> str:
    """Return the best answer to a prompt that its passages allow."""
    match = _PROMPT.search(prompt)
    if match is None:
        return "There are no passages."
    question = match["question"].strip()
    heads = list(_PASSAGE.finditer(match["passages"]))
    ends = [*(head.start() for head in heads[1:]), len(match["passages"])][: len(heads)]
    for head, end in zip(heads, ends, strict=True):
        text = match["passages"][head.end() : end]
        for item in gold.get(question, ()):
            answer = next((answer for answer in item.answers if answer in text), None)
            if answer is not None and head[2].startswith((f"{item.document}.txt", "notes-")):
                return f"{answer} [{head[1]}]."
    chinese = re.search(r"[\u4e00-\u9fff]", question)
    return "这些文档中没有相关内容。" if chinese else "That is not in these documents."


class Reader(BaseHTTPRequestHandler):
    """The handler of one connection."""

    protocol_version = "HTTP/1.1"
    gold: Mapping[str, Sequence[Gold]] = {}

    def answer(self, prompt: str) -> str:
        """Return the answer to a prompt."""
        return said(prompt, self.gold)

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"object": "list", "data": [{"id": "ideal"}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = str(body["messages"][-1]["content"])
        answer = self.answer(prompt)
        head = {"id": "chatcmpl-1", "created": 1, "model": "ideal"}
        usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(answer) // 4 + 1}
        usage["total_tokens"] = sum(usage.values())
        if not body.get("stream"):
            message = {"role": "assistant", "content": answer}
            choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            self._send("application/json", json.dumps(whole).encode())
            return
        delta = {"role": "assistant", "content": answer}
        frames: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": usage},
        ]
        lines = [json.dumps({**head, "object": "chat.completion.chunk", **frame}) for frame in frames]
        self._send("text/event-stream", "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode())

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: only the figures count."""


def main() -> None:
    """Serve until the process is stopped."""
    Reader.gold = known(Path(sys.argv[2]) if len(sys.argv) > 2 else DATA)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Reader).serve_forever()


if __name__ == "__main__":
    main()
