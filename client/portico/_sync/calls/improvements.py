# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.improvements`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._request import at, by_id, without_none
from portico._sync.group import Group
from portico.schemas.improvements import AppliedProposal, Improvement


class Improvements(Group):
    """Improvements of apps: which part fails, and which change helps."""

    def create(
        self,
        app: str,
        *,
        data: Sequence[Mapping[str, Any]] | None = None,
        eval: str | None = None,
        model: str | None = None,
        ratings: bool | None = None,
    ) -> Improvement:
        """Find the part of an app that fails, and measure changes of it on held-back cases. Nothing is applied.

        An app to improve, and its cases.

        A case has a ``question`` and the expected ``answer``. ``passages`` are the texts that contain the
        answer, and ``tool`` is the right tool call, with a ``name`` and ``arguments``. Unless ``ratings`` is
        false, the caller's corrections of the app's answers are cases too. Answers rated ``bad`` and recent
        runs that failed are cases without an expected answer; they need an ``eval`` whose criteria use only
        the question.

        ``eval`` is an evaluation, by its name or id, whose criteria grade the answers; by default an answer
        passes if it contains the expected answer. ``model`` is another model to try.

        ``ratings``: (default: ``True``).
        """
        return self._transport.request(
            "POST",
            "/api/improvements",
            Improvement,
            json=without_none(app=app, data=data, eval=eval, model=model, ratings=ratings),
        )

    def list(self, *, app: str | None = None, limit: int | None = None) -> Sequence[Improvement]:
        """List improvements, newest first.

        ``app``: Only improvements of this app.

        ``limit``: (default: ``20``).
        """
        return self._transport.request(
            "GET", "/api/improvements", list[Improvement], query=without_none(app=app, limit=limit)
        )

    def get(self, improvement_id: str) -> Improvement:
        """Return an improvement with its diagnosis and its proposals."""
        return self._transport.request(
            "GET", at("api", "improvements", by_id(improvement_id, "an improvement")), Improvement
        )

    def apply(
        self, improvement_id: str, proposal: int, *, alias: str | None = None, weight: float | None = None
    ) -> AppliedProposal:
        """Make the app with a proposal the canary of an alias. Only measured proposals that improve the
        held-back cases can be applied.

        The number of the proposal to apply, the alias of the app's version, and the share of calls that the
        changed version gets. ``alias`` can be omitted if the app's version has one alias.

        ``weight``: (default: ``0.1``).
        """
        return self._transport.request(
            "POST",
            at("api", "improvements", by_id(improvement_id, "an improvement"), "apply"),
            AppliedProposal,
            json=without_none(proposal=proposal, alias=alias, weight=weight),
        )
