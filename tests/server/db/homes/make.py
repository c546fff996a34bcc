"""Creates the home of a version: ``make.py OUT.zip``, with the checkout of that version first on PYTHONPATH.

The script asks a daemon of that version over HTTP for one of everything that the version supports, and skips the rest.
``OUT.zip`` contains the database as SQL, the bytes of files, and the daemon's own report. After the release of a new
migration, add the home of the release. ``homes/commits`` has homes of commits between releases, named after the commit:
add one where a migration changed before its release.

    git worktree add /tmp/then COMMIT
    PYTHONPATH=/tmp/then/client:/tmp/then/server python tests/server/db/homes/make.py tests/server/db/homes/0012.zip
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

DOCS = {
    "port.md": "# Ports\n\nThe Lighthouse daemon listens on port 7419.\n",
    "gaoshan.md": "# 高山植物\n\n雪莲花生长在海拔四千米以上的高山地带。\n",
}
CONFIGURATION = 'models:\n  - {name: echo, source: "fake://", aliases: [default]}\n'
FLOW = {"portico_flow": 1, "step": {"op": "llm", "model": "echo"}}
AGENT = {"portico_agent": 1, "model": "echo", "memory": {"policy": "window", "messages": 20}}
LINE = {
    "custom_id": "one",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "echo", "messages": [{"role": "user", "content": "hello"}]},
}


class Asking:
    """Calls to one daemon. ``known`` has the daemon's answers by name."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.known: dict[str, Any] = {}

    def send(
        self, name: str, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> Any:
        """Send a request and store its answer under ``name``; return ``None`` if this version does not support it."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": kind}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                reply = answer.read()
        except urllib.error.HTTPError as error:
            print(name, error.code, error.read()[:200])
            return None
        self.known[name] = json.loads(reply) if reply.startswith((b"{", b"[")) else None
        return self.known[name]

    def upload(self, name: str, filename: str, content: bytes, purpose: str) -> Any:
        parts = [
            b'--edge\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + purpose.encode(),
            f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'.encode()
            + content,
            b"--edge--\r\n",
        ]
        return self.send(name, "POST", "/v1/files", b"\r\n".join(parts), "multipart/form-data; boundary=edge")

    def settle(self) -> None:
        """Wait until no run is in progress."""
        for _ in range(300):
            runs = self.send("runs", "GET", "/api/runs?limit=100") or {"data": []}
            if all(run["status"] in ("completed", "failed", "cancelled") for run in runs["data"]):
                return
            time.sleep(0.1)


def fill(ask: Asking) -> None:
    """Create one of everything."""
    ask.settle()
    ask.send("key", "POST", "/api/keys", {"name": "website", "scopes": ["chat", "stores:*:read"]})
    ask.send("alias", "PUT", "/api/aliases/speaker", {"target": "echo"})
    chat = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
    ask.send("chat", "POST", "/v1/chat/completions", chat)
    file = ask.upload("file", "note.txt", b"The harbour opens at six.", "assistants")
    store = ask.send("store", "POST", "/v1/vector_stores", {"name": "book", "metadata": {"shelf": "3"}})
    ask.send("attached", "POST", f"/v1/vector_stores/{store['id']}/files", {"file_id": file["id"]})
    ask.send(
        "group",
        "POST",
        "/api/stores/book/groups",
        {"name": "small", "chunking_strategy": {"type": "sentence"}},
    )
    message = [{"role": "user", "content": "Hello {{ name }}"}]
    ask.send("prompt", "POST", "/api/prompts", {"name": "greet", "messages": message})
    ask.send("second prompt", "POST", "/api/prompts", {"name": "greet", "messages": [*message, *message]})
    ask.send("flow", "POST", "/api/apps", {"name": "twice", "kind": "flow", "spec": FLOW})
    ask.send("agent", "POST", "/api/apps", {"name": "clerk", "kind": "agent", "spec": AGENT})
    ask.send("ran", "POST", "/api/apps/twice/run", {"input": "hello"})
    ask.send("talked", "POST", "/api/apps/clerk/run", {"input": "hello", "session": "monday"})
    ask.send("response", "POST", "/v1/responses", {"model": "echo", "input": "hello", "store": True})
    ask.send("conversation", "POST", "/v1/conversations", {"metadata": {"a": "b"}})
    lines = ask.upload("lines", "lines.jsonl", json.dumps(LINE).encode(), "batch")
    batch = {
        "input_file_id": lines and lines["id"],
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    ask.send("batch", "POST", "/v1/batches", batch)
    grader = {"type": "string_check", "name": "same", "input": "{{ sample.output_text }}", "operation": "eq",
              "reference": "hello"}  # fmt: skip
    config = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}
    ask.send(
        "eval", "POST", "/v1/evals", {"name": "e", "data_source_config": config, "testing_criteria": [grader]}
    )
    ask.settle()
    ask.send("stores", "GET", "/v1/vector_stores")
    ask.send("files", "GET", "/v1/files")
    ask.send("keys", "GET", "/api/keys")
    ask.send("apps", "GET", "/api/apps")
    ask.send("prompts", "GET", "/api/prompts")
    ask.send("sessions", "GET", "/api/sessions")


def main(out: Path) -> None:
    """Create the home."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        home, docs = root / "home", root / "handbook"
        docs.mkdir()
        for name, text in DOCS.items():
            (docs / name).write_text(text, encoding="utf-8")
        (root / "c.yaml").write_text(CONFIGURATION)
        command = [
            sys.executable,
            "-m",
            "portico_server",
            "serve",
            "--home",
            str(home),
            "--port",
            "0",
            "--quiet",
        ]
        command += [
            "--file",
            str(root / "c.yaml"),
            "--docs",
            str(docs),
            "--parent-watch",
            "--offline",
            "true",
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as daemon:
            assert daemon.stdout is not None
            ask = Asking(json.loads(daemon.stdout.readline())["url"])
            try:
                fill(ask)
            finally:
                daemon.terminate()
        with sqlite3.connect(home / "portico.db") as database:
            dump = "\n".join(database.iterdump())
        database.close()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("portico.sql", dump)
            archive.writestr("known.json", json.dumps(ask.known, ensure_ascii=False))
            for path in sorted((home / "blobs").rglob("*")):
                if path.is_file() and "arriving" not in path.parts:
                    archive.write(path, path.relative_to(home).as_posix())
    print(out, os.path.getsize(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
