"""Reads the specification of a flow or an agent from a file, or from an object in a Python module."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from portico.errors import InvalidRequest
from portico.flow import Flow, flow_of

WRITTEN = (".json", ".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class AppSource:
    """An app to deploy or to run. ``kind`` is ``flow`` or ``agent``. ``flow`` is the flow object, for flows only."""

    kind: str
    spec: Mapping[str, Any]
    flow: Flow | None = None

    @property
    def name(self) -> str:
        return str(self.spec.get("name") or "")


def read_source(target: str) -> AppSource:
    """Read an app from ``story.yaml``, ``story.json``, ``story.py:story`` or ``package.module:story``.

    If this is impossible, raise `InvalidRequest` that says what is missing, or why the object is not an app.
    """
    path = Path(target)
    if path.suffix.lower() in WRITTEN:
        return source_of(document_of(path), target)
    return source_of(load(target), target)


def source_of(target_object: Any, target: str) -> AppSource:
    """Convert an object to an app. ``target`` is the place of the object, for error messages."""
    spec = target_object if isinstance(target_object, Mapping) else getattr(target_object, "spec", None)
    if isinstance(spec, Mapping) and "portico_agent" in spec:
        return AppSource("agent", spec)
    if isinstance(target_object, Mapping) and "portico_flow" not in target_object:
        raise InvalidRequest(
            f"'{target}' is not a specification: it has neither 'portico_flow' nor 'portico_agent' at the "
            "top level."
        )
    try:
        flow = flow_of(target_object)
    except InvalidRequest as error:
        raise InvalidRequest(f"'{target}' cannot be composed: {error.message}", param=error.param) from error
    return AppSource("flow", flow.spec, flow)


def load(target: str) -> Any:
    """Return the object that ``file.py:name`` or ``module:name`` refers to. Modules are searched in this folder
    first.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise InvalidRequest(
            f"'{target}' does not name a flow: use FILE.py:NAME, MODULE:NAME, or a file that ends in .json "
            "or .yaml.",
            param="file",
        )
    value: Any = _module(place)
    for part in name.split("."):
        if not hasattr(value, part):
            raise InvalidRequest(f"There is no '{name}' in '{place}'.", param="file")
        value = getattr(value, part)
    return value


def _module(place: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = Path(place).absolute()
        if not path.is_file():
            raise InvalidRequest(f"The file {place} does not exist.", param="file")
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    except InvalidRequest:
        raise
    except Exception as error:
        raise InvalidRequest(
            f"'{place}' cannot be imported: {type(error).__name__}: {error}.", param="file"
        ) from error
    return module


def document_of(path: Path) -> Any:
    """Parse a JSON or YAML file. Raises `InvalidRequest` that describes the error."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InvalidRequest(f"The file {path} does not exist.", param="file") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8 text.", param="file") from error
    if path.suffix.lower() == ".json":
        try:
            return json.loads(text)
        except ValueError as error:
            raise InvalidRequest(f"{path} is not JSON: {error}.", param="file") from error
    from portico.cli.yaml_text import parse_yaml

    return parse_yaml(text, str(path))
