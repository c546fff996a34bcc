"""Coverage of the API by the command line, the terminal UI and the page: ``python -m tests.parity`` prints the table.

A verb is a method of the SDK, such as ``keys.revoke``, with the routes that it calls. The command line and the
terminal UI name verbs in their source; the page calls their routes.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from portico.client import AsyncClient
from portico.errors import PorticoError
from tests.daemon import ROOT

TABLE = ROOT / "docs" / "parity.md"

PAGE = "page/src"

LOCAL = frozenset({"close"})
"""Methods that call no route."""

_USED = re.compile(r"(?<![a-zA-Z])client\.(\w+)(?:\.(\w+))?")

_CALL = re.compile(r"""\b(?:json|rows|send)(?:<[^(]*>)?\(\s*(`[^`]*`|"[^"]*"|\w+)""")
"""A request of the page: its path or the constant that holds it, followed by its options."""

_OPENED = re.compile(r"""\.open\("([A-Z]+)", addressOf\("(/[^"]*)"\)\)""")
_HELD = re.compile(r"""\bconst (\w+) =\s+(?:\([^)]*\) =>\s+)?([`"]/(?:api|v1)/[^`"]*[`"])""")
_WORD = re.compile(r"""["`/](\w+)["`?]""")
_HOLE = re.compile(r"\$\{(\w*)[^}]*\}")

ANSWER = {
    "id": "x",
    "object": "file",
    "bytes": 1,
    "created_at": 0,
    "filename": "x",
    "purpose": "x",
    "status": "completed",
    "run_id": "x",
    "eval_id": "x",
    "output_file_id": "x",
    "sha256": "x",
    "data": [],
}
"""A sufficient answer to the first of several requests: an uploaded file."""


@dataclass(frozen=True, slots=True)
class Verb:
    """A method of the SDK.

    ``noun`` is its group, empty for the client's own methods; ``routes`` are in the form ``DELETE /api/keys/{}``.
    """

    noun: str
    name: str
    routes: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.noun}.{self.name}" if self.noun else self.name


@dataclass(frozen=True, slots=True)
class Exemption:
    """Where verbs are missing, and why. ``missing`` contains ``CLI``, ``TUI`` or ``page``."""

    verbs: tuple[str, ...]
    missing: frozenset[str]
    why: str


class _Recorder(httpx.AsyncBaseTransport):
    """Records the requested routes."""

    def __init__(self) -> None:
        self.routes: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().partition("?")[0]
        route = f"{request.method} {re.sub(r'/[x1](?=/|$)', '/{}', path)}"
        if route in self.routes:
            raise TimeoutError  # the verb waits for a change, without an end
        self.routes.append(route)
        await request.aread()
        return httpx.Response(200, json=ANSWER)


@cache
def verbs() -> tuple[Verb, ...]:
    """Return every verb with its routes."""
    return tuple(asyncio.run(_find_verbs()))


async def _find_verbs() -> list[Verb]:
    verb_list = []
    async with AsyncClient("http://test", "pk-x", transport=_Recorder()) as client:
        groups = {name: group for name, group in vars(client).items() if not name.startswith("_")}
    for noun, group in {"": client, **groups}.items():
        for name, _ in inspect.getmembers(type(group), inspect.isfunction):
            if not name.startswith("_") and name not in LOCAL:
                verb_list.append(Verb(noun, name, await _routes_of(noun, name)))
    return verb_list


async def _routes_of(noun: str, name: str) -> tuple[str, ...]:
    recorder = _Recorder()
    with TemporaryDirectory() as folder:
        async with AsyncClient("http://test", "pk-x", transport=recorder) as client:
            method = getattr(getattr(client, noun) if noun else client, name)
            file = Path(folder) / "file.jsonl"
            file.write_text('{"a": 1}\n', encoding="utf-8")
            positional_arguments, keyword_arguments = _arguments(method, file)
            with suppress(
                PorticoError, TypeError, ValueError, AttributeError, KeyError, TimeoutError, OSError
            ):
                async with asyncio.timeout(60):
                    await _exhaust(method(*positional_arguments, **keyword_arguments))
    return tuple(dict.fromkeys(recorder.routes))


async def _exhaust(answer: Any) -> None:
    """Fetch the first item of a method's return value."""
    if inspect.isawaitable(answer):
        await answer
    elif hasattr(answer, "result"):
        await answer.result()
    elif hasattr(answer, "read"):
        async with answer:
            await answer.read()
    elif isinstance(answer, AsyncIterator):
        async for _item in answer:
            break


def _arguments(method: Any, file: Path) -> tuple[list[Any], dict[str, Any]]:
    """Return a value for each required argument; ``file`` is read or written."""
    positional_arguments: list[Any] = []
    keyword_arguments: dict[str, Any] = {}
    for parameter in inspect.signature(method).parameters.values():
        optional = (
            parameter.default is not parameter.empty and parameter.name != "model"
        )  # otherwise the code searches for one
        if optional or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        value = file if parameter.name == "path" else _value(str(parameter.annotation), file)
        if parameter.kind is parameter.KEYWORD_ONLY:
            keyword_arguments[parameter.name] = value
        else:
            positional_arguments.append(value)
    return positional_arguments, keyword_arguments


class _Ended:
    """A stand-in for an evaluation or search run."""

    id = run_id = eval_id = "x"


def _value(annotation: str, file: Path) -> Any:
    for begin, value in (
        ("EvalRun", _Ended()),
        ("EvalSearch", _Ended()),
        ("Flow", {"step": {"op": "llm", "model": "x"}}),
        ("Sequence[Mapping", [{"a": 1}]),
        ("Data", [{"a": 1}]),
        ("Requests", [{"a": 1}]),
        ("Mapping", {"step": {"op": "llm", "model": "x"}}),
        ("Sequence[Given", []),
        ("Sequence", ["x"]),
        ("str | Path | bytes", file),
        ("Path", file),
        ("bytes", b"x"),
        ("bool", True),
        ("int", 1),
        ("float", 1.0),
    ):
        if annotation.startswith(begin):
            return value
    return "x"


def used_by(*folders: str) -> frozenset[str]:
    """Return the verbs that Python code names, in the form ``client.keys.revoke``."""
    verb_names: set[str] = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for noun, name in _USED.findall(path.read_text(encoding="utf-8")):
                verb_names |= {noun, f"{noun}.{name}"}
    return frozenset(verb_names)


def used_by_page() -> frozenset[str]:
    """Return the API routes that the page's source calls, in the form ``DELETE /api/keys/{}``."""
    known_routes = {route for verb in verbs() for route in verb.routes}
    return frozenset(
        route for path in (ROOT / PAGE).rglob("*.ts*") for route in _called_in(path, known_routes)
    )


def _called_in(path: Path, known: Iterable[str]) -> Iterable[str]:
    """Return the known routes that a file calls.

    A placeholder in a path matches any name, or a word that the file contains.
    """
    text = _HOLE.sub(r"${\1}", path.read_text(encoding="utf-8"))
    words = {"{}", *_WORD.findall(text)}
    constants = _HELD.findall(text)
    request_pairs = set(_OPENED.findall(text))
    for call in _CALL.finditer(text):
        options = re.split(r";|\b(?:json|rows|send)[<(]", text[call.end() :], maxsplit=1)[0]
        default_method = "POST" if re.search(r"\b(?:json|body)\b", options) else "GET"
        for method in re.findall(r'method: "([A-Z]+)"', options) or [default_method]:
            for form in _forms(call[1], constants):
                request_pairs.add((method, _HOLE.sub("{}", form.strip('`"')).partition("?")[0]))
    for method_asked, form in request_pairs:
        pattern = re.compile(re.escape(form).replace(re.escape("{}"), "([^/]+)"))
        for route in known:
            method_known, _, place = route.partition(" ")
            match = pattern.fullmatch(place) if method_known == method_asked else None
            if match is not None and set(match.groups()) <= words:
                yield route


def _forms(path: str, held: Iterable[tuple[str, str]]) -> Iterable[str]:
    """Return the variants of a path: itself, and itself with the names of constants replaced by their values."""
    if path[0] in '`"':
        yield path
    for name, value in held:
        if path == name:
            yield value
        elif f"${{{name}}}" in path:
            yield path.replace(f"${{{name}}}", value.strip('`"'))


def matrix() -> Mapping[Verb, frozenset[str]]:
    """Return where each verb is available: ``CLI``, ``TUI``, ``page``."""
    cli, tui, page = used_by("client/portico/cli"), used_by("tui"), used_by_page()
    verb_places: dict[Verb, frozenset[str]] = {}
    for verb in verbs():
        calls = bool(verb.routes) and page.issuperset(verb.routes)
        places = {"CLI": verb.key in cli, "TUI": verb.key in tui, "page": calls}
        verb_places[verb] = frozenset(place for place, can in places.items() if can)
    return verb_places


def exemptions() -> list[Exemption]:
    """Return the rows of the first table of docs/parity.md."""
    rows = []
    for cells in _rows(TABLE.read_text(encoding="utf-8").split("\n## ")[1]):
        missing = frozenset(interface.strip() for interface in cells[1].split(","))
        rows.append(Exemption(tuple(re.findall(r"`([^`]+)`", cells[0])), missing, cells[2]))
    return rows


def protocol_routes() -> dict[str, str]:
    """Return the patterns of the second table, for paths that other programs use, with the reasons."""
    text = TABLE.read_text(encoding="utf-8").split("\n## ")[2]
    return {route: cells[1] for cells in _rows(text) for route in re.findall(r"`([^`]+)`", cells[0])}


def _rows(text: str) -> Iterable[list[str]]:
    for line in [line for line in text.splitlines() if line.startswith("|")][2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        yield cells


def main() -> None:
    """Print the matrix."""
    print("| verb | routes | CLI | TUI | page |\n| --- | --- | --- | --- | --- |")
    for verb, places in matrix().items():
        cells = ("x" if place in places else "" for place in ("CLI", "TUI", "page"))
        print(f"| `{verb.key}` | {', '.join(verb.routes)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
