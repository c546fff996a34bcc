"""A fixture that runs one command line in this process and captures its output."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.daemon import Daemon

from portico.cli.root import run


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a command: exit code and output."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Done]


@pytest.fixture
def command(daemon: Daemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run ``portico …`` against the daemon of this module."""
    monkeypatch.setenv("PORTICO_URL", daemon.url)
    monkeypatch.delenv("PORTICO_API_KEY", raising=False)

    def call(*arguments: str) -> Done:
        capsys.readouterr()
        code = run(list(arguments))
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return call
