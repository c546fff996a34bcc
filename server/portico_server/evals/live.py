"""Answers to live calls, judged by the criteria of an evaluation. Nothing of them is kept but the score."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from portico_server.core.errors import EngineFailed, InvalidRequest, NotFound, nearest
from portico_server.core.ids import is_id
from portico_server.core.pools import FairSlots
from portico_server.core.principal import Principal
from portico_server.db import evals as rows
from portico_server.db.evals import ItemRow
from portico_server.evals import criteria
from portico_server.evals.criteria import RETRIEVAL
from portico_server.evals.evals import Evaluations, evaluation
from portico_server.evals.source import DataSource
from portico_server.evals.spec import EvalServices, Evaluation
from portico_server.evals.work import ItemWork
from portico_server.runs.run import BEHIND

LIVE_FIELDS: Final = ("input", "messages")
"""What an item of a live call has: the last message of the user, and all messages."""

_IN_SOURCE: Final = re.compile(r"\bitem\s*(?:\[\s*|\.get\(\s*)[\"'](\w+)[\"']")


class LiveGrading:
    """`portico_server.core.interfaces.LiveJudge` of the evaluations of this daemon."""

    def __init__(self, services: EvalServices, evals: Evaluations, slots: FairSlots) -> None:
        self._services = services
        self._evals = evals
        self._slots = slots

    async def find(self, ref: str, caller: Principal) -> str:
        """See `LiveJudge`."""
        found = await self._get(ref, caller)
        criteria.require_rights(found.criteria, caller)
        for number, one in enumerate(found.criteria):
            if one.grader["type"] == RETRIEVAL:
                raise InvalidRequest(
                    f"The criterion '{one.name}' of '{ref[:80]}' compares with relevant files, which a live call does "
                    "not name. Use an evaluation whose criteria look at the question and the answer alone.",
                    code="needs_reference",
                    param="eval",
                )
            for name in sorted(
                {*criteria.fields_of(found.criteria[number : number + 1]), *_read(one.grader)}
            ):
                if name not in LIVE_FIELDS:
                    raise InvalidRequest(
                        f"The criterion '{one.name}' of '{ref[:80]}' asks for 'item.{name}', and a live call has "
                        f"{' and '.join(f'item.{known}' for known in LIVE_FIELDS)} alone: there is no reference to "
                        "compare with. Use an evaluation whose criteria need none.",
                        code="needs_reference",
                        param="eval",
                    )
        return found.row.id

    async def _get(self, ref: str, caller: Principal) -> Evaluation:
        if is_id(ref, "eval_"):
            try:
                return await self._evals.get(ref, caller)
            except NotFound as error:
                raise NotFound(error.message, code=error.code, param="eval") from error
        owner = None if caller.admin else caller.id
        found = await self._services.database.read(rows.named, ref, owner)
        if not found:
            page = await self._evals.list(caller, limit=100, order="desc")
            raise NotFound(
                f"There is no evaluation '{ref[:80]}'.{nearest(ref, [one.row.name for one in page.data])}",
                code="eval_not_found",
                param="eval",
            )
        if len(found) > 1:
            raise InvalidRequest(
                f"Several evaluations are named '{ref[:80]}'. Give the id of one: '{found[0].id}' is the newest.",
                code="ambiguous_name",
                param="eval",
            )
        return evaluation(found[0])

    async def judge(
        self, eval_id: str, owner: str, item: Mapping[str, Any], sample: Mapping[str, Any]
    ) -> float:
        """See `LiveJudge`."""
        row = await self._services.database.read(rows.get, eval_id)
        if row is None:
            raise NotFound(f"The evaluation '{eval_id}' was removed.", code="eval_not_found")
        test = evaluation(row)
        BEHIND.set(True)
        work = ItemWork(self._services, owner, DataSource("jsonl", {"type": "jsonl"}), test.criteria)
        async with self._slots.taken():
            for judge in sorted(criteria.judges_of(test.criteria)):
                await self._services.wait_for_idle(judge)
            found = await work.outcome(ItemRow(0, item, sample))
        if found.status == "error":
            message = next((str(one["error"]["message"]) for one in found.results if "error" in one), "")
            raise EngineFailed(message or str(found.document.get("error", {}).get("message", "")))
        return found.score


def _read(grader: Any) -> Iterator[str]:
    """The fields of an item that Python in a grader reads by name."""
    if isinstance(grader, Mapping):
        for name, value in grader.items():
            if name == "source" and isinstance(value, str):
                yield from _IN_SOURCE.findall(value)
            else:
                yield from _read(value)
