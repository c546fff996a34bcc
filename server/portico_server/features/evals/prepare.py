"""Validation of a run before any call: the names, templates and items that it uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.principal import Principal
from portico_server.db import evals as rows
from portico_server.db.evals import ItemRow
from portico_server.features.evals import criteria, source
from portico_server.features.evals.run_items import need, of_content, of_file
from portico_server.features.evals.sample import searching
from portico_server.features.evals.source import DataSource
from portico_server.features.evals.spec import EvalServices, Evaluation

PARAM = "data_source"


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A data source and its items, after both were checked."""

    source: DataSource
    items: list[ItemRow]


async def prepare(
    services: EvalServices, test: Evaluation, data_source: Any, caller: Principal
) -> PreparedRun:
    """Parse and check the data source of a run. Raises `PorticoError` that names the invalid field."""
    read = source.read(data_source, PARAM)
    await check(services, read, caller)
    item_rows = await _items(services, test, data_source["source"], caller)
    needed_fields = read.fields | criteria.fields_of(test.criteria)
    need(needed_fields, item_rows, f"{PARAM}.source")
    return PreparedRun(read, item_rows)


async def check(services: EvalServices, read: DataSource, caller: Principal) -> None:
    """Check that the object to evaluate exists for the caller and supports the data source."""
    if read.kind == "jsonl":
        return
    if read.kind == "retrieval":
        await _find_named(services, f"store/{read.target}", caller, f"{PARAM}.store")
        searching(read.search, "", services.filters)
        return
    card = (await _find_named(services, read.target, caller, f"{PARAM}.model")).card
    if "chat" not in card.capabilities:
        can = ", ".join(sorted(card.capabilities))
        raise InvalidRequest(
            f"'{read.target}' does not support chat; it supports {can}. To evaluate a store, use the type "
            "'retrieval'.",
            code="unsupported_operation",
            param=f"{PARAM}.model",
        )


async def _find_named(services: EvalServices, key: str, caller: Principal, param: str) -> Any:
    try:
        return await services.registry.resolve(key, caller)
    except NotFound as error:
        raise NotFound(error.message, code=error.code, param=param) from error


async def _items(
    services: EvalServices, test: Evaluation, data_source: Mapping[str, Any], caller: Principal
) -> list[ItemRow]:
    at = f"{PARAM}.source"
    if data_source["type"] == "file_content":
        return await pools.DATASETS.run_for(
            caller.id, of_content, data_source.get("content"), test.schema, f"{at}.content"
        )
    if data_source["type"] == source.EARLIER_RUN:
        earlier = await services.database.read(rows.run, data_source["id"])
        if earlier is None or earlier.eval_id != test.row.id:
            raise NotFound(
                f"The run '{data_source['id'][:80]}' does not exist in this evaluation, or its items cannot "
                "be used again.",
                code="eval_run_not_found",
                param=f"{at}.id",
            )
        return await services.database.read(rows.every_item, earlier.data_id)
    try:
        file = await services.files.readable(data_source["id"], caller)
    except NotFound as error:
        raise InvalidRequest(error.message, code="file_not_found", param=f"{at}.id") from error
    async with services.files.open(file.sha256) as path:
        return await pools.DATASETS.run_for(caller.id, of_file, path, test.schema, f"{at}.id")
