"""The parts of an app that can be exchanged: its models, prompts, examples, stores, searches and tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from portico_server.features.apps.app_variants import AppParts
from portico_server.features.apps.places import named_nodes

SEARCH_FIELDS: Final = ("top_k", "ranker")
"""Settings of a ``retrieve`` step that can be exchanged."""


def parts_of(spec: Mapping[str, Any], version: int, other_specs: Sequence[Mapping[str, Any]]) -> AppParts:
    """Return the parts of a specification. ``other_specs`` are the other versions, newest first."""
    models: dict[str, str] = {}
    stores: dict[str, str] = {}
    searches: dict[str, Mapping[str, Any]] = {}
    tools: dict[str, tuple[str, Mapping[str, Any]]] = {}
    examples: list[str] = []
    for at, node in _nodes(spec):
        if _asks_model(node):
            models[f"{at}model"] = str(node.get("model") or "default")
            if not node.get("few_shot"):
                examples.append(f"{at}few_shot")
        if isinstance(node.get("store"), str):
            stores[f"{at}store"] = node["store"]
        for number, store in enumerate(node.get("stores") or ()):
            stores[f"{at}stores[{number}]"] = str(store)
        if node.get("op") == "retrieve":
            searches[at] = {name: node[name] for name in SEARCH_FIELDS if name in node}
        for number, use in enumerate(node.get("tools") or ()):
            entry = use if isinstance(use, Mapping) else {"tool": use}
            tools[str(entry.get("tool") or entry.get("function"))] = (f"{at}tools[{number}]", entry)
    prompts = _prompts(spec)
    other_prompts = [_prompts(other_spec) for other_spec in other_specs]
    texts = {
        place: tuple(dict.fromkeys([text, *(older[place] for older in other_prompts if place in older)]))
        for place, text in prompts.items()
    }
    return AppParts(version, models, texts, tuple(examples), stores, searches, tools)


def _prompts(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the instructions that are plain text, by their places."""
    prompts = {}
    for at, node in _nodes(spec):
        field = "instructions" if "portico_agent" in node else "system"
        text = node.get(field, "")
        if _asks_model(node) and isinstance(text, str):
            prompts[f"{at}{field}"] = text
    return prompts


def _asks_model(node: Mapping[str, Any]) -> bool:
    return node.get("op") == "llm" or "portico_agent" in node


def _nodes(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the steps whose names are unique, and the app itself, each with the prefix of the places in it."""
    yield "", spec
    nodes = named_nodes(spec)
    names = [name for name, _node in nodes]
    yield from ((f"{name}.", node) for name, node in nodes if names.count(name) == 1)
