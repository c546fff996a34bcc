"""The file that defines an evaluation: its name, items, criteria and target, and the settings to search."""

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
"""Number of existing evaluations to check for the same name and criteria."""


@dataclass(frozen=True, slots=True)
class EvalFile:
    """The contents of an evaluation file. ``data`` is the path of a JSON Lines file, or the items themselves."""

    name: str
    criteria: Sequence[Mapping[str, Any]]
    data: Path | Sequence[Mapping[str, Any]]
    source: Mapping[str, Any]
    search: Mapping[str, Any]
    schema: Mapping[str, Any] | None

    @property
    def items(self) -> int:
        """The number of items."""
        if not isinstance(self.data, Path):
            return len(self.data)
        with self.data.open("rb") as file:
            return sum(1 for line in file if line.strip())

    @property
    def judges(self) -> int:
        """Number of model calls that the criteria need per item."""
        return sum(criterion.get("type") in ("label_model", "score_model") for criterion in self.criteria)


def read(path: Path) -> EvalFile:
    """Read an evaluation file. Raises `InvalidRequest` that describes the error."""
    document = document_of(path)
    if not isinstance(document, Mapping):
        raise InvalidRequest(f"{path} must contain an object with {', '.join(FIELDS)}.", param="file")
    for name in document:
        if name not in FIELDS:
            near = get_close_matches(str(name), FIELDS, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else f" There are {', '.join(FIELDS)}."
            raise InvalidRequest(f"{path} has an unknown field '{name}'.{hint}", param=str(name))
    name = document.get("name") or path.stem
    if not isinstance(name, str):
        raise InvalidRequest(f"{path}: 'name' must be text.", param="name")
    return EvalFile(
        name,
        _list(document, "criteria", path),
        _data(document.get("data"), path),
        _object(document, "source", path),
        _object(document, "search", path),
        _object(document, "item_schema", path) or None,
    )


def _data(value: Any, path: Path) -> Path | Sequence[Mapping[str, Any]]:
    if isinstance(value, str) and value:
        data = (path.parent / Path(value).expanduser()).resolve()
        if not data.is_file():
            raise InvalidRequest(f"{path}: the file {data} for 'data' does not exist.", param="data")
        return data
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return value
    raise InvalidRequest(
        f"{path} needs 'data': a file of JSON lines in the same folder, or a list of items.", param="data"
    )


def _list(document: Mapping[str, Any], name: str, path: Path) -> list[Mapping[str, Any]]:
    value = document.get(name)
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise InvalidRequest(f"{path} needs '{name}': a list of graders, each with a 'name'.", param=name)
    return value


def _object(document: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{path}: '{name}' must be an object.", param=name)
    return value


def evaluation(client: Client, file: EvalFile) -> Eval:
    """Return the existing evaluation with the name and content of a file, so that all its runs are grouped. If none
    exists, create it.
    """
    for known_eval in client.evals.list(limit=MAX_SEARCHED_ITEMS):
        if same_test(known_eval, file):
            return known_eval
    return client.evals.create(file.name, file.criteria, item_schema=file.schema)


def same_test(known_eval: Eval, file: EvalFile) -> bool:
    """Return whether an evaluation has the name, criteria and item schema of a file."""
    form = known_eval.data_source_config.get("schema", {}).get("properties", {}).get("item")
    criteria_text = json.dumps(list(file.criteria), sort_keys=True)
    has_same_criteria = json.dumps(list(known_eval.testing_criteria), sort_keys=True) == criteria_text
    return known_eval.name == file.name and has_same_criteria and form == (file.schema or {"type": "object"})
