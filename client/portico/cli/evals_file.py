"""The file of an evaluation: its name, items and criteria, who is asked, and what a search tries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portico.cli.source import document_of
from portico.errors import InvalidRequest

if TYPE_CHECKING:
    from portico.client import Client
    from portico.schemas.evals import Eval

FIELDS = ("name", "data", "criteria", "source", "search", "item_schema")

MAX_SEARCHED_ITEMS = 100
"""Evaluations among which one of the same name and criteria is looked for."""


@dataclass(frozen=True, slots=True)
class EvalFile:
    """What the file says. ``data`` is a file of JSON lines, or the items themselves."""

    name: str
    criteria: Sequence[Mapping[str, Any]]
    data: Path | Sequence[Mapping[str, Any]]
    source: Mapping[str, Any]
    search: Mapping[str, Any]
    schema: Mapping[str, Any] | None

    @property
    def items(self) -> int:
        """How many there are."""
        if not isinstance(self.data, Path):
            return len(self.data)
        with self.data.open("rb") as file:
            return sum(1 for line in file if line.strip())

    @property
    def judges(self) -> int:
        """Calls of models that the criteria take for one item."""
        return sum(one.get("type") in ("label_model", "score_model") for one in self.criteria)


def read(path: Path) -> EvalFile:
    """The file. Raises `InvalidRequest` that names what is wrong with it."""
    found = document_of(path)
    if not isinstance(found, Mapping):
        raise InvalidRequest(f"{path} must hold an object with {', '.join(FIELDS)}.", param="file")
    for name in found:
        if name not in FIELDS:
            near = get_close_matches(str(name), FIELDS, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else f" There are {', '.join(FIELDS)}."
            raise InvalidRequest(f"{path} has no field '{name}'.{hint}", param=str(name))
    name = found.get("name") or path.stem
    if not isinstance(name, str):
        raise InvalidRequest(f"{path}: 'name' must be a text.", param="name")
    return EvalFile(
        name,
        _list(found, "criteria", path),
        _data(found.get("data"), path),
        _object(found, "source", path),
        _object(found, "search", path),
        _object(found, "item_schema", path) or None,
    )


def _data(given: Any, path: Path) -> Path | Sequence[Mapping[str, Any]]:
    if isinstance(given, str) and given:
        data = (path.parent / Path(given).expanduser()).resolve()
        if not data.is_file():
            raise InvalidRequest(f"{path}: there is no file {data} for 'data'.", param="data")
        return data
    if isinstance(given, list) and given and all(isinstance(one, Mapping) for one in given):
        return given
    raise InvalidRequest(
        f"{path} needs 'data': a file of JSON lines beside it, or a list of items.", param="data"
    )


def _list(found: Mapping[str, Any], name: str, path: Path) -> list[Mapping[str, Any]]:
    value = found.get(name)
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise InvalidRequest(f"{path} needs '{name}': a list of graders, each with a 'name'.", param=name)
    return value


def _object(found: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    value = found.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{path}: '{name}' must be an object.", param=name)
    return value


def evaluation(client: Client, file: EvalFile) -> Eval:
    """The evaluation of that name that tests the same, so that its runs stand together; made if there is none."""
    for known in client.evals.list(limit=MAX_SEARCHED_ITEMS):
        if same_test(known, file):
            return known
    return client.evals.create(file.name, file.criteria, item_schema=file.schema)


def same_test(known: Eval, file: EvalFile) -> bool:
    """Whether an evaluation has the name, the criteria and the items' schema of a file."""
    form = known.data_source_config.get("schema", {}).get("properties", {}).get("item")
    wanted = json.dumps(list(file.criteria), sort_keys=True)
    same = json.dumps(list(known.testing_criteria), sort_keys=True) == wanted
    return known.name == file.name and same and form == (file.schema or {"type": "object"})
