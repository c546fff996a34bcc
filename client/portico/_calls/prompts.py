"""The requests of the prompt library, and how to read what comes back; see `portico._calls`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from portico import _read as read
from portico._calls.call import Call
from portico.errors import InvalidRequest
from portico.values import ImportedPrompts, Prompt


def prompts_list(everyone: bool = False) -> Call[list[Prompt]]:
    return Call("GET", "/api/prompts", read.rows(_prompt), query={"all": True} if everyone else {})


def prompt_get(name: str, version: int | None) -> Call[Prompt]:
    query = {} if version is None else {"version": version}
    return Call("GET", _path(name), _prompt, query=query)


def prompt_history(name: str) -> Call[list[Prompt]]:
    return Call("GET", _path(name, "/versions"), read.rows(_prompt))


def prompt_save(name: str, spec: Mapping[str, Any]) -> Call[Prompt]:
    return Call("POST", "/api/prompts", _prompt, json={**spec, "name": name})


def prompt_render(
    name: str, arguments: Mapping[str, Any], version: int | None
) -> Call[list[Mapping[str, str]]]:
    body = {"arguments": dict(arguments), "version": version}
    return Call("POST", _path(name, "/render"), lambda value: list(value["messages"]), json=body)


def prompts_import(
    files: Mapping[str, str], url: str | None, origin: str, dry_run: bool
) -> Call[ImportedPrompts]:
    body = {"files": dict(files), "url": url or "", "origin": origin, "dry_run": dry_run}
    return Call("POST", "/api/prompts/import", _imported, json=body, slow=True)


def prompt_remove(name: str) -> Call[None]:
    return Call("DELETE", _path(name), read.nothing)


def _path(name: str, rest: str = "") -> str:
    if not name or name.startswith(".") or "//" in name or "/." in name:
        raise InvalidRequest("Name a prompt.", param="name")
    return f"/api/prompts/{quote(name, safe='/')}{rest}"


def _prompt(value: Any) -> Prompt:
    lists = {name: tuple(value.get(name) or ()) for name in ("arguments", "messages", "examples")}
    return read.value_of(Prompt, value, **lists)


def _imported(value: Any) -> ImportedPrompts:
    lists = {name: tuple(value.get(name) or ()) for name in ("added", "changed", "unchanged")}
    return read.value_of(ImportedPrompts, value, **lists)
