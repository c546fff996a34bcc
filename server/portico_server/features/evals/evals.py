"""Evaluations: created, listed, renamed, deleted, and applied to live answers, of which only the score is stored.
`portico_server.features.evals.runs` handles runs of evaluations.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from portico_server.core.errors import EngineFailed, InvalidRequest, NotFound, nearest
from portico_server.core.ids import is_id, new_id
from portico_server.core.invalid import missing, not_one_of, wrong_type
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.work_slots import FairSlots
from portico_server.db import evals as rows
from portico_server.db.database import Database
from portico_server.db.evals import EvalRow, ItemRow
from portico_server.db.rows import Order, RowPage
from portico_server.features.evals import criteria
from portico_server.features.evals.criteria import RETRIEVAL
from portico_server.features.evals.source import DataSource
from portico_server.features.evals.spec import EvalServices, Evaluation
from portico_server.features.evals.work import ItemWork
from portico_server.runs.quotas import StorageQuota
from portico_server.runs.run import BEHIND

SCOPE: Final = "chat"
"""The scope that evaluations require. Each model, app or store that an evaluation calls also requires its own scope."""

_LOGS: Final = (
    "Calls are not stored, so they cannot be evaluated. Use 'custom' with an 'item_schema', and supply the "
    "items as a file of JSON lines; each item may include an answer as its 'sample'."
)


class Evaluations:
    """The evaluations of the daemon. Callers see only their own evaluations."""

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
        """Create an evaluation. Raises `InvalidRequest` that names the invalid field, and `NotFound` for an unknown
        judge.
        """
        caller.require(SCOPE)
        criterions = criteria.read(testing_criteria)
        criteria.require_rights(criterions, caller)
        for judge in sorted(criteria.judges_of(criterions)):
            try:
                card = (await self._registry.resolve(judge, caller)).card
            except NotFound as error:
                raise NotFound(error.message, code=error.code, param="testing_criteria.model") from error
            if "chat" not in card.capabilities:
                raise InvalidRequest(
                    f"'{judge}' cannot judge: it does not support chat.", param="testing_criteria.model"
                )
        now = time.time()
        row = EvalRow(
            id=new_id("eval_"),
            owner=caller.id,
            name=name,
            spec={
                "data_source_config": _config(config),
                "testing_criteria": [dict(c.grader) for c in criterions],
            },
            metadata=metadata,
            created_at=now,
            updated_at=now,
        )
        await self.require_room(row.bytes, caller)
        await self._database.write(rows.create, row)
        return Evaluation(row, criterions)

    async def require_room(self, size: int, caller: Principal) -> None:
        """Raise `TooLarge` if the caller's storage quota has no room for ``size`` more bytes."""
        await self._quota.admit(self._database, caller.id, size)

    async def get(self, eval_id: str, caller: Principal) -> Evaluation:
        """Return an evaluation. Raises `NotFound`."""
        caller.require(SCOPE)
        row = await self._database.read(rows.get, eval_id)
        if row is None or not caller.sees(row.owner):
            raise NotFound(
                f"The evaluation '{eval_id[:80]}' does not exist.", code="eval_not_found", param="eval_id"
            )
        return evaluation(row)

    async def find(self, ref: str, caller: Principal) -> Evaluation:
        """Return an evaluation by its id or name. Raises `NotFound`, and `InvalidRequest` if several evaluations have
        that name.
        """
        if is_id(ref, "eval_"):
            try:
                return await self.get(ref, caller)
            except NotFound as error:
                raise NotFound(error.message, code=error.code, param="eval") from error
        owner = None if caller.admin else caller.id
        eval_rows = await self._database.read(rows.by_name, ref, owner)
        if not eval_rows:
            page = await self.list(caller, limit=100, order="desc")
            raise NotFound(
                f"The evaluation '{ref[:80]}' does not "
                f"exist.{nearest(ref, [eval_view.row.name for eval_view in page.data])}",
                code="eval_not_found",
                param="eval",
            )
        if len(eval_rows) > 1:
            raise InvalidRequest(
                f"Several evaluations are named '{ref[:80]}'. Use an id instead: '{eval_rows[0].id}' is the "
                "newest.",
                code="ambiguous_name",
                param="eval",
            )
        return evaluation(eval_rows[0])

    async def list(
        self,
        caller: Principal,
        *,
        after: str | None = None,
        limit: int = 20,
        order: Order = "asc",
        by_update: bool = False,
    ) -> RowPage[Evaluation]:
        """Return the caller's evaluations."""
        caller.require(SCOPE)
        cursor = None if after is None else (await self.get(after, caller)).row
        owner = None if caller.admin else caller.id
        row_page = await self._database.read(
            rows.page, owner, after=cursor, limit=limit, order=order, by_update=by_update
        )
        return RowPage(tuple(evaluation(row) for row in row_page.data), row_page.has_more)

    async def update(
        self, eval_id: str, name: str | None, metadata: Mapping[str, str] | None, caller: Principal
    ) -> Evaluation:
        """Change the name or the metadata of an evaluation; its criteria cannot change."""
        await self.get(eval_id, caller)
        values: dict[str, Any] = {}
        if name is not None:
            values["name"] = name
        if metadata is not None:
            values["metadata"] = dict(metadata)
        await self._database.write(rows.change, eval_id, values)
        return await self.get(eval_id, caller)


def evaluation(row: EvalRow) -> Evaluation:
    """Return an evaluation from its row."""
    return Evaluation(row, criteria.read(list(row.spec["testing_criteria"])))


def _config(value: Any) -> dict[str, Any]:
    """Parse the configuration of the items, which contains their schema."""
    at = "data_source_config"
    if value is None:
        missing(at)
    if not isinstance(value, Mapping):
        wrong_type(at, "an object with a 'type'", value)
    kind = value.get("type")
    if kind in ("logs", "stored_completions"):
        raise InvalidRequest(_LOGS, code="unsupported_parameter", param=f"{at}.type")
    if kind != "custom":
        not_one_of(f"{at}.type", kind, ("custom",))
    schema = value.get("item_schema")
    if schema is None:
        missing(f"{at}.item_schema")
    if not isinstance(schema, Mapping):
        wrong_type(f"{at}.item_schema", "a JSON schema", schema)
    from portico_server.core.json_schema import require_schema

    require_schema("the items", schema, f"{at}.item_schema")
    return {
        "type": "custom",
        "item_schema": dict(schema),
        "include_sample_schema": bool(value.get("include_sample_schema")),
    }


LIVE_FIELDS: Final = ("input", "messages")
"""Fields of the item for a live call: the last message of the user, and all messages."""

_IN_SOURCE: Final = re.compile(r"\bitem\s*(?:\[\s*|\.get\(\s*)[\"'](\w+)[\"']")


class LiveGrading:
    """The `portico_server.features.canaries.live_judge.LiveJudge` that uses the evaluations of this daemon."""

    def __init__(self, services: EvalServices, evals: Evaluations, slots: FairSlots) -> None:
        self._services = services
        self._evals = evals
        self._slots = slots

    async def find(self, ref: str, caller: Principal) -> str:
        """See `LiveJudge`."""
        found_evaluation = await self._evals.find(ref, caller)
        criteria.require_rights(found_evaluation.criteria, caller)
        for number, criterion in enumerate(found_evaluation.criteria):
            if criterion.grader["type"] == RETRIEVAL:
                raise InvalidRequest(
                    f"The criterion '{criterion.name}' of '{ref[:80]}' compares with relevant files, which a "
                    "live call does not have. Use an evaluation whose criteria need only the question and "
                    "the answer.",
                    code="needs_reference",
                    param="eval",
                )
            for name in sorted(
                {
                    *criteria.fields_of(found_evaluation.criteria[number : number + 1]),
                    *_read(criterion.grader),
                }
            ):
                if name not in LIVE_FIELDS:
                    raise InvalidRequest(
                        f"The criterion '{criterion.name}' of '{ref[:80]}' uses 'item.{name}', but a live "
                        "call only has "
                        f"{' and '.join(f'item.{live_field}' for live_field in LIVE_FIELDS)}. A live call "
                        "has no reference answer; use an evaluation whose criteria need none.",
                        code="needs_reference",
                        param="eval",
                    )
        return found_evaluation.row.id

    async def judge(
        self, eval_id: str, owner: str, item: Mapping[str, Any], sample: Mapping[str, Any]
    ) -> float:
        """See `LiveJudge`."""
        row = await self._services.database.read(rows.get, eval_id)
        if row is None:
            raise NotFound(f"The evaluation '{eval_id}' was deleted.", code="eval_not_found")
        test = evaluation(row)
        BEHIND.set(True)
        work = ItemWork(self._services, owner, DataSource("jsonl", {"type": "jsonl"}), test.criteria)
        async with self._slots.hold():
            for judge in sorted(criteria.judges_of(test.criteria)):
                await self._services.wait_for_idle(judge)
            item_result = await work.outcome(ItemRow(0, item, sample))
        if item_result.status == "error":
            message = next(
                (str(result["error"]["message"]) for result in item_result.results if "error" in result), ""
            )
            raise EngineFailed(message or str(item_result.document.get("error", {}).get("message", "")))
        return item_result.score


def _read(grader: Any) -> Iterator[str]:
    """Yield the item fields that a Python grader reads by name."""
    if isinstance(grader, Mapping):
        for name, value in grader.items():
            if name == "source" and isinstance(value, str):
                yield from _IN_SOURCE.findall(value)
            else:
                yield from _read(value)
