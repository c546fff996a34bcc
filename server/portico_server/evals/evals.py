"""Evaluations: made, listed, renamed, forgotten. Their runs are the business of `portico_server.evals.runs`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.ids import new_id
from portico_server.core.invalid import missing, not_one_of, wrong_type
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.db import evals as rows
from portico_server.db.database import Database
from portico_server.db.evals import EvalRow
from portico_server.db.rows import Order, RowPage
from portico_server.evals import criteria
from portico_server.evals.spec import Evaluation
from portico_server.runs.quotas import StorageQuota

SCOPE: Final = "chat"
"""What a key needs for evaluations; each name that is asked also needs its own right."""

_LOGS: Final = (
    "Calls are not kept here, so there are none to evaluate. Use 'custom' with an 'item_schema', and give the items as "
    "a file of JSON lines; an answer may stand beside each item as its 'sample'."
)


class Evaluations:
    """The evaluations of the daemon. Another key's do not exist for a caller."""

    def __init__(self, database: Database, registry: Registry, quota: StorageQuota) -> None:
        self._database = database
        self._quota = quota
        self._registry = registry

    async def create(
        self,
        name: str,
        config: Any,
        testing_criteria: Any,
        metadata: Mapping[str, str],
        caller: Principal,
    ) -> Evaluation:
        """Make one. Raises `InvalidRequest` that names what is wrong, `NotFound` for a judge that is not there."""
        caller.require(SCOPE)
        found = criteria.read(testing_criteria)
        criteria.require_rights(found, caller)
        for judge in sorted(criteria.judges_of(found)):
            try:
                card = (await self._registry.resolve(judge, caller)).card
            except NotFound as error:
                raise NotFound(error.message, code=error.code, param="testing_criteria.model") from error
            if "chat" not in card.capabilities:
                raise InvalidRequest(
                    f"'{judge}' cannot judge: it answers no chat.", param="testing_criteria.model"
                )
        now = time.time()
        row = EvalRow(
            id=new_id("eval_"),
            owner=caller.id,
            name=name,
            spec={"data_source_config": _config(config), "testing_criteria": [dict(c.grader) for c in found]},
            metadata=metadata,
            created_at=now,
            updated_at=now,
        )
        await self.require_room(row.bytes, caller)
        await self._database.write(rows.create, row)
        return Evaluation(row, found)

    async def require_room(self, size: int, caller: Principal) -> None:
        """Raise `TooLarge` if a caller may not keep so many bytes more."""
        await self._quota.admit(self._database, caller.id, size)

    async def get(self, eval_id: str, caller: Principal) -> Evaluation:
        """One of them. Raises `NotFound`."""
        caller.require(SCOPE)
        row = await self._database.read(rows.get, eval_id)
        if row is None or not caller.sees(row.owner):
            raise NotFound(
                f"There is no evaluation '{eval_id[:80]}'.", code="eval_not_found", param="eval_id"
            )
        return evaluation(row)

    async def list(
        self,
        caller: Principal,
        *,
        after: str | None = None,
        limit: int = 20,
        order: Order = "asc",
        by_update: bool = False,
    ) -> RowPage[Evaluation]:
        """The caller's."""
        caller.require(SCOPE)
        cursor = None if after is None else (await self.get(after, caller)).row
        owner = None if caller.admin else caller.id
        found = await self._database.read(
            rows.page, owner, after=cursor, limit=limit, order=order, by_update=by_update
        )
        return RowPage(tuple(evaluation(row) for row in found.data), found.has_more)

    async def update(
        self, eval_id: str, name: str | None, metadata: Mapping[str, str] | None, caller: Principal
    ) -> Evaluation:
        """Give it another name or other metadata; what it tests stays."""
        await self.get(eval_id, caller)
        values: dict[str, Any] = {}
        if name is not None:
            values["name"] = name
        if metadata is not None:
            values["metadata"] = dict(metadata)
        await self._database.write(rows.change, eval_id, values)
        return await self.get(eval_id, caller)


def evaluation(row: EvalRow) -> Evaluation:
    """An evaluation from its row."""
    return Evaluation(row, criteria.read(list(row.spec["testing_criteria"])))


def _config(given: Any) -> dict[str, Any]:
    """The form of the items, checked."""
    at = "data_source_config"
    if given is None:
        missing(at)
    if not isinstance(given, Mapping):
        wrong_type(at, "an object with a 'type'", given)
    kind = given.get("type")
    if kind in ("logs", "stored_completions"):
        raise InvalidRequest(_LOGS, code="unsupported_parameter", param=f"{at}.type")
    if kind != "custom":
        not_one_of(f"{at}.type", kind, ("custom",))
    schema = given.get("item_schema")
    if schema is None:
        missing(f"{at}.item_schema")
    if not isinstance(schema, Mapping):
        wrong_type(f"{at}.item_schema", "a JSON schema", schema)
    from portico_server.core.json_schema import require_schema  # jsonschema is slow to import

    require_schema("the items", schema, f"{at}.item_schema")
    return {
        "type": "custom",
        "item_schema": dict(schema),
        "include_sample_schema": bool(given.get("include_sample_schema")),
    }
