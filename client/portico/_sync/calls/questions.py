# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.questions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portico._request import at, by_id, given
from portico._sync.group import Group
from portico.schemas.questions import Question


class Questions(Group):
    """What runs wait for: approvals, functions of clients, input of people."""

    def list(
        self, *, status: str | None = None, run: str | None = None, limit: int | None = None
    ) -> Sequence[Question]:
        """What the caller's runs have asked, newest first; what all runs have asked, for an admin.

        ``status``: ``pending`` | ``answered`` | ``expired`` | ``cancelled``.

        ``run``: Only what this run asked.

        ``limit``: (default: ``100``).
        """
        return self._transport.request(
            "GET", "/api/questions", list[Question], query=given(status=status, run=run, limit=limit)
        )

    def get(self, question_id: str) -> Question:
        """One of them."""
        return self._transport.request(
            "GET", at("api", "questions", by_id(question_id, "a question")), Question
        )

    def answer(
        self,
        question_id: str,
        accepted: bool,
        *,
        value: Any = None,
        note: str | None = None,
        worker: str | None = None,
    ) -> Question:
        """Answer; the run continues at once. Only the first answer counts: a second one is refused with 409.

        An answer. ``value`` is what was asked for, ``note`` what the run, and a model behind it, is told
        about it.

        ``worker`` is the name under which a function was claimed.
        """
        return self._transport.request(
            "POST",
            at("api", "questions", by_id(question_id, "a question"), "answer"),
            Question,
            json=given(accepted=accepted, value=value, note=note, worker=worker),
        )
