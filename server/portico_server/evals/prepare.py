"""Everything that a run names is there and fits, before anything is asked: names, templates, items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portico_server.core import threads
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.principal import Principal
from portico_server.db.evals import ItemRow
from portico_server.evals import criteria, items, source
from portico_server.evals.sample import searching
from portico_server.evals.source import Source
from portico_server.evals.spec import Eval, Workplace

PARAM = "data_source"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A source and its items, both checked."""

    source: Source
    items: list[ItemRow]


async def prepare(place: Workplace, test: Eval, given: Any, caller: Principal) -> Prepared:
    """A run's data source from its JSON. Raises `PorticoError` that names what is wrong."""
    read = source.read(given, PARAM)
    await check(place, read, caller)
    found = await _items(place, test, given["source"], caller)
    asked = read.fields | criteria.fields_of(test.criteria)
    items.need(asked, found, f"{PARAM}.source")
    return Prepared(read, found)


async def check(place: Workplace, read: Source, caller: Principal) -> None:
    """What is evaluated is there for the caller and does what is asked of it."""
    if read.kind == "jsonl":
        return
    if read.kind == "retrieval":
        await _named(place, f"store/{read.asked}", caller, f"{PARAM}.store")
        searching(read.search, "", place.filters)
        return
    card = (await _named(place, read.asked, caller, f"{PARAM}.model")).card
    if "chat" not in card.capabilities:
        can = ", ".join(sorted(card.capabilities))
        raise InvalidRequest(
            f"'{read.asked}' answers no chat; it does {can}. A store is evaluated with the type 'retrieval'.",
            code="unsupported_operation",
            param=f"{PARAM}.model",
        )


async def _named(place: Workplace, key: str, caller: Principal, param: str) -> Any:
    try:
        return await place.registry.resolve(key, caller)
    except NotFound as error:
        raise NotFound(error.message, code=error.code, param=param) from error


async def _items(place: Workplace, test: Eval, given: Mapping[str, Any], caller: Principal) -> list[ItemRow]:
    at = f"{PARAM}.source"
    if given["type"] == "file_content":
        return await threads.DATASETS.run_for(
            caller.id, items.of_content, given.get("content"), test.schema, f"{at}.content"
        )
    try:
        file = await place.files.get(given["id"], caller)
    except NotFound as error:
        raise InvalidRequest(error.message, code="file_not_found", param=f"{at}.id") from error
    return await threads.DATASETS.run_for(
        caller.id, items.of_file, place.files.path(file), test.schema, f"{at}.id"
    )
