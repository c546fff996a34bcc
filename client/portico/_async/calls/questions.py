# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.questions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portico._async.group import Group
from portico._request import at, by_id, without_none
from portico.schemas.questions import Question


class Questions(Group):
    """Questions that runs wait for: approvals, calls of clients' functions, and input from people."""

    async def list(
        self, *, status: str | None = None, run: str | None = None, limit: int | None = None
    ) -> Sequence[Question]:
        """List the questions of the caller's runs, newest first. Admins see the questions of all runs.

        ``status``: ``pending`` | ``answered`` | ``expired`` | ``cancelled``.

        ``run``: Only questions of this run.

        ``limit``: (default: ``100``).
        """
        return await self._transport.request(
            "GET", "/api/questions", list[Question], query=without_none(status=status, run=run, limit=limit)
        )

    async def get(self, question_id: str) -> Question:
        """Return a question."""
        return await self._transport.request(
            "GET", at("api", "questions", by_id(question_id, "a question")), Question
        )

    async def answer(
        self,
        question_id: str,
        accepted: bool,
        *,
        value: Any = None,
        note: str | None = None,
        worker: str | None = None,
    ) -> Question:
        """Answer a question; the run continues immediately. Only the first answer counts; a second answer is
        refused with 409.

        An answer. ``value`` is the requested value, ``note`` a remark for the run and its model.

        ``worker`` is the name of the worker that claimed the function call.
        """
        return await self._transport.request(
            "POST",
            at("api", "questions", by_id(question_id, "a question"), "answer"),
            Question,
            json=without_none(accepted=accepted, value=value, note=note, worker=worker),
        )
