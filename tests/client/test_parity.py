"""`Client` and `AsyncClient` offer the same, call for call."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from portico import _async, _sync
from portico.client import AsyncClient, Client

GROUPS = [
    "Models",
    "Deployments",
    "Adapters",
    "Tuning",
    "Engines",
    "Stores",
    "Files",
    "Chunkers",
    "Apps",
    "Agents",
    "Sessions",
    "Runs",
    "Keys",
    "Tools",
    "Questions",
    "Artifacts",
    "Prompts",
    "Mcp",
]


def _calls(cls: type[Any]) -> dict[str, list[tuple[str, Any, Any]]]:
    return {
        name: [(p.name, p.kind, p.default) for p in inspect.signature(call).parameters.values()]
        for name, call in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize("group", GROUPS)
def test_groups_have_the_same_calls(group: str) -> None:
    assert _calls(getattr(_sync, group)) == _calls(getattr(_async, group)) != {}


def test_clients_have_the_same_calls_and_groups() -> None:
    assert _calls(Client) == _calls(AsyncClient)
    with Client("http://test") as client:
        groups = {name for name in vars(client) if not name.startswith("_")}
    assert (
        groups
        == {name.lower() for name in GROUPS}
        == {name for name in vars(AsyncClient("http://test")) if not name.startswith("_")}
    )
