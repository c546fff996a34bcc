"""Portico's components, and whether they have known vulnerabilities."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.daemon import ROOT

LOCK = ROOT / "requirements" / "run.lock"


def run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
    )


def test_the_sbom_lists_every_pin_of_the_lock_with_its_hashes() -> None:
    done = run("sbom")
    assert done.returncode == 0
    sbom: dict[str, Any] = json.loads(done.stdout)
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.5")
    lock = LOCK.read_text(encoding="utf-8")
    assert [(part["name"], part["version"]) for part in sbom["components"]] == re.findall(
        r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE
    )
    hashes = [digest["content"] for part in sbom["components"] for digest in part["hashes"]]
    assert hashes == re.findall(r"sha256:([0-9a-f]{64})", lock)
    references = [part["bom-ref"] for part in sbom["components"]]
    assert len(set(references)) == len(references)
    assert run("sbom").stdout == done.stdout


class _Known(BaseHTTPRequestHandler):
    """A service that reports a vulnerability of one package."""

    against = ""

    def do_POST(self) -> None:
        query_document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        results = [
            {"vulns": [{"id": "GHSA-0000"}]} if query["package"]["name"] == self.against else {}
            for query in query_document["queries"]
        ]
        body = json.dumps({"results": results}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None: ...


@pytest.fixture
def source() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Known)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("against", "code"), [("", 0), ("starlette", 1)])
def test_a_known_vulnerability_of_a_pin_fails_the_audit(
    source: str, monkeypatch: pytest.MonkeyPatch, against: str, code: int
) -> None:
    monkeypatch.setattr(_Known, "against", against)
    done = run("audit", OSV_URL=source, NO_PROXY="127.0.0.1")
    assert done.returncode == code, done.stderr
    assert ("GHSA-0000" in done.stdout) == bool(code)


def test_the_audit_is_skipped_when_the_vulnerability_service_is_unreachable() -> None:
    done = run("audit", OSV_URL="http://127.0.0.1:9", NO_PROXY="127.0.0.1")
    assert (done.returncode, done.stdout.partition(":")[0]) == (0, "skipped")
