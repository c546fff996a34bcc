"""The changes of a trial."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from portico_server.core.errors import InvalidRequest, NotFound, nearest
from portico_server.core.words import whole_number
from portico_server.features.evals.source import FIELDS

APPS: Final = "apps."
"""Prefix of paths into a deployed app."""

TUNING: Final = "fine_tuning."
"""Prefix of paths to settings of a training job."""

INTO: Final = "into"
"""Name of the field, next to the job's own fields, with the path that receives the trained model; the default is
``model``.
"""

_PART: Final = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")

_OPEN: Final = ("sampling_params", "search_params")
"""Objects that a data source may lack, and whose own fields are the only ones a path may set."""


def overridden(document: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data source with the settings that belong neither to an app nor to a training job. Raises `NotFound`
    for a path that does not exist.
    """
    new_document = copy.deepcopy(dict(document))
    for path, value in settings.items():
        if not path.startswith((APPS, TUNING)):
            _put(new_document, path, value)
    return new_document


def of_training(training: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a fine-tuning job with the settings that belong to the job."""
    new_document = copy.deepcopy({name: value for name, value in training.items() if name != INTO})
    for path, value in settings.items():
        if path.startswith(TUNING):
            node = new_document
            *outer, last = path.removeprefix(TUNING).split(".")
            for part in outer:
                inner = node.get(part)
                node = node.setdefault(part, {}) if inner is None else inner
                if not isinstance(node, dict):
                    raise _nowhere(path, part, list(new_document))
            node[last] = value
    return new_document


def _put(document: dict[str, Any], path: str, value: Any) -> None:
    parts = [name or number for name, number in _PART.findall(path)]
    if not parts or "".join(match[0] for match in _PART.finditer(path)) != path:
        raise InvalidRequest(
            f"'{path[:200]}' is not a path. Separate the names that lead to a setting with dots, as in "
            "'sampling_params.temperature' or 'apps.NAME.STEP.system'.",
            param="parameters",
        )
    known_fields = [name for name in FIELDS[document["type"]] if name not in ("type", "source")]
    if parts[0] not in known_fields:
        raise _nowhere(
            path,
            parts[0],
            [*known_fields, "apps", "fine_tuning"],
            f" Valid names are {', '.join(known_fields)}, apps.NAME.… and fine_tuning.….",
        )
    node: Any = document
    for number, part in enumerate(parts[:-1]):
        if number == 0 and part in _OPEN and not isinstance(node.get(part), dict):
            node[part] = {}
        node = _below(node, part, path)
    last = parts[-1]
    if isinstance(node, list):
        _below(node, last, path)
        node[whole_number(last) or 0] = value
    elif isinstance(node, dict) and (node is document or parts[0] in _OPEN or last in node):
        node[last] = value
    else:
        raise _nowhere(path, last, list(node) if isinstance(node, dict) else [])


def _below(node: Any, part: str, path: str) -> Any:
    number = whole_number(part)
    if isinstance(node, list) and number is not None and number < len(node):
        return node[number]
    if isinstance(node, dict) and part in node:
        return node[part]
    raise _nowhere(path, part, list(node) if isinstance(node, dict) else [])


def _nowhere(path: str, part: str, known_names: Sequence[str], otherwise: str = "") -> NotFound:
    return NotFound(
        f"The path '{path}' does not exist: unknown name '{part}'.{nearest(part, known_names) or otherwise}",
        code="place_not_found",
        param=f"parameters.{path}",
    )


def of_apps(settings: Mapping[str, Any], app_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the changes to apps: for each app, a mapping of paths to values."""
    changes_by_app: dict[str, dict[str, Any]] = {}
    for path, value in settings.items():
        if not path.startswith(APPS):
            continue
        remainder = path.removeprefix(APPS)
        name = max((name for name in app_names if remainder.startswith(f"{name}.")), key=len, default="")
        place = remainder[len(name) + 1 :].removeprefix("steps.")
        if not name or not place:
            first_part = remainder.partition(".")[0]
            hint = nearest(first_part, app_names) or (
                f" There are {', '.join(sorted(app_names)[:20])}." if app_names else ""
            )
            raise NotFound(
                f"'{path}' must name a deployed app and a path in it, as in apps.NAME.STEP.FIELD.{hint}",
                code="app_not_found",
                param=f"parameters.{path}",
            )
        changes_by_app.setdefault(name, {})[place] = value
    return changes_by_app
