"""The interface through which canaries have live answers judged by evaluations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias

from portico_server.core.principal import Principal


class LiveJudge(Protocol):
    """Judges answers to live calls with the criteria of an evaluation."""

    async def find(self, ref: str, caller: Principal) -> str:
        """Return the id of one of the caller's evaluations, given by name or id.

        Raises `NotFound`, and `InvalidRequest` if the evaluation needs more than a question and its answer.
        """

    async def judge(
        self, eval_id: str, owner: str, item: Mapping[str, Any], sample: Mapping[str, Any]
    ) -> float:
        """Return the score of an answer, from 0 to 1. Judging uses the permissions of the key ``owner`` and is charged
        to it.

        Raises `PorticoError` if the answer cannot be judged.
        """


FindJudge: TypeAlias = Callable[[], Awaitable[LiveJudge]]
"""Returns the judge, which is built when it is first needed. Raises `NotFound` if the daemon has no evaluations."""
