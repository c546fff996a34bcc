"""The stores of a configuration, under the key ``stores``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from portico_server.core.configuration_document import ConfigurationDocument, build_each, read_fields
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.features.sources.spec import parse_source
from portico_server.features.stores.groups import GroupSpec, parse_group
from portico_server.features.stores.store import IndexName, check_answers, check_index, check_search

GROUP_EXAMPLE: Final = "{name: pages, strategy: page}"


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """A store in the configuration.

    ``folder`` is absolute. ``source`` is followed instead of a folder. ``archive`` is the absolute path of a file that
    `portico stores export` wrote; if the store does not exist yet, it is created from the archive.
    """

    name: str
    folder: Path | None = None
    source: str | tuple[str, ...] | None = None
    archive: Path | None = None
    embedding_model: str = ""
    description: str = ""
    app: bool = True
    answers: str = ""
    links: bool | None = None
    keep_removed: bool | None = None
    search: Mapping[str, Any] | None = None
    index: IndexName | None = None
    rights: str | Mapping[str, Any] | None = None
    groups: tuple[GroupSpec, ...] = ()


def read(document: ConfigurationDocument) -> tuple[StoreSpec, ...]:
    """Return the stores of a configuration. Raise `InvalidRequest`."""
    return document.read_each("stores", lambda item, at: _store(item, at, document))


def _store(item: Mapping[str, Any], at: str, document: ConfigurationDocument) -> StoreSpec:
    values = read_fields(
        item,
        at,
        {
            "name": str,
            "folder": str,
            "source": (str, list),
            "archive": str,
            "embedding_model": str,
            "description": str,
            "app": bool,
            "answers": str,
            "links": bool,
            "keep_removed": bool,
            "search": dict,
            "index": str,
            "rights": (str, dict),
            "groups": list,
        },
        {"groups": GROUP_EXAMPLE},
    )
    if values.get("answers"):
        try:
            check_answers(values["answers"])
        except InvalidRequest as error:
            raise InvalidRequest(f"{at}: {error.message}", param=f"{at}.answers") from error
    if "index" in values:
        try:
            check_index(values["index"])
        except InvalidRequest as error:
            raise InvalidRequest(f"{at}: {error.message}", param=f"{at}.index") from error
    if "search" in values:
        try:
            values["search"] = check_search(values["search"])
        except InvalidRequest as error:
            raise InvalidRequest(
                f"{at}: {error.message}", code=error.code, param=f"{at}.{error.param}"
            ) from error
    if "groups" in values:
        values["groups"] = build_each(values["groups"], f"{at}.groups", parse_group, GROUP_EXAMPLE)
    if values.get("folder"):
        values["folder"] = document.path(values["folder"])
    else:
        values.pop("folder", None)
    if "source" in values:
        if "folder" in values:
            raise InvalidRequest(
                f"{at} has a folder and a source; a store can follow only one.", param=f"{at}.source"
            )
        written_source = parse_source(_strings(values["source"], f"{at}.source"), f"{at}.source").written()
        values["source"] = written_source if isinstance(written_source, str) else tuple(written_source)
    if values.get("archive"):
        if "folder" in values or "source" in values:
            raise InvalidRequest(
                f"{at} has an archive and a {'folder' if 'folder' in values else 'source'}; a store that "
                "follows a folder or a source cannot be created from an archive.",
                param=f"{at}.archive",
            )
        values["archive"] = document.path(values["archive"])
    else:
        values.pop("archive", None)
    return StoreSpec(**values)


def _strings(value: Any, at: str) -> str | list[str]:
    if isinstance(value, str):
        return value
    if not all(isinstance(item, str) for item in value):
        raise InvalidRequest(f"{at} must be a URL or a list of URLs.", param=at)
    return list(value)
