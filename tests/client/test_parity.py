"""`Client` and `AsyncClient` offer the same calls."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
from tests.daemon import ROOT

from portico.client import AsyncClient, Client


@pytest.mark.slow
def test_the_generated_source_is_current() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "sdk"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _calls(cls: type[Any]) -> dict[str, list[tuple[str, Any, Any]]]:
    return {
        name: [(p.name, p.kind, p.default) for p in inspect.signature(call).parameters.values()]
        for name, call in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_")
    }


def test_clients_have_the_same_calls_and_groups() -> None:
    assert _calls(Client) == _calls(AsyncClient)
    with Client("http://test") as client:
        groups = {name: type(group) for name, group in vars(client).items() if not name.startswith("_")}
    async_groups = vars(AsyncClient("http://test"))
    for name, group in groups.items():
        assert _calls(group) == _calls(type(async_groups[name])) != {}
    assert {*groups} == {name for name in async_groups if not name.startswith("_")}
