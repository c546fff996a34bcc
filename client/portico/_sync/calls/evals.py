# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.evals`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._read import Page
from portico._request import at, by_id, given
from portico._sync.group import Group
from portico.schemas.evals import Eval, EvalApplied, EvalOutput, EvalRun, EvalSearch


class Evals(Group):
    """Evaluations of models, apps and stores, and searches over their settings."""

    def get(self, eval_id: str) -> Eval:
        """Return one evaluation."""
        return self._transport.request("GET", at("v1", "evals", by_id(eval_id, "an evaluation")), Eval)

    def update(
        self, eval_id: str, *, name: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Eval:
        """Change the name or the metadata of an evaluation.

        Another name, or other metadata.
        """
        return self._transport.request(
            "POST",
            at("v1", "evals", by_id(eval_id, "an evaluation")),
            Eval,
            json=given(name=name, metadata=metadata),
        )

    def remove(self, eval_id: str) -> None:
        """Delete an evaluation with its runs and searches. Those in progress are cancelled."""
        return self._transport.request("DELETE", at("v1", "evals", by_id(eval_id, "an evaluation")), None)

    def get_run(self, eval_id: str, run_id: str) -> EvalRun:
        """Return one run of an evaluation, with its results so far."""
        return self._transport.request(
            "GET", at("v1", "evals", by_id(eval_id, "an evaluation"), "runs", by_id(run_id, "a run")), EvalRun
        )

    def cancel_run(self, eval_id: str, run_id: str) -> EvalRun:
        """Cancel a run of an evaluation; its results so far stay. Older clients leave out ``/cancel``."""
        return self._transport.request(
            "POST",
            at("v1", "evals", by_id(eval_id, "an evaluation"), "runs", by_id(run_id, "a run"), "cancel"),
            EvalRun,
        )

    def remove_run(self, eval_id: str, run_id: str) -> None:
        """Delete a run of an evaluation with its results."""
        return self._transport.request(
            "DELETE", at("v1", "evals", by_id(eval_id, "an evaluation"), "runs", by_id(run_id, "a run")), None
        )

    def outputs(
        self,
        eval_id: str,
        run_id: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        order: str | None = None,
        status: str | None = None,
    ) -> Page[EvalOutput]:
        """Return the results of the items that are done.

        ``limit``: (default: ``20``).

        ``order``: ``asc`` | ``desc`` (default: ``asc``).

        ``status``: ``pass`` | ``fail`` | ``error``.
        """
        return self._transport.request(
            "GET",
            at(
                "v1", "evals", by_id(eval_id, "an evaluation"), "runs", by_id(run_id, "a run"), "output_items"
            ),
            Page[EvalOutput],
            query=given(after=after, limit=limit, order=order, status=status),
        )

    def searches(self, eval_id: str, *, limit: int | None = None) -> Sequence[EvalSearch]:
        """The searches of an evaluation without their trials, the newest first.

        ``limit``: (default: ``20``).
        """
        return self._transport.request(
            "GET",
            at("api", "evals", by_id(eval_id, "an evaluation"), "searches"),
            list[EvalSearch],
            query=given(limit=limit),
        )

    def get_search(self, eval_id: str, search_id: str) -> EvalSearch:
        """One search with its trials, the best first."""
        return self._transport.request(
            "GET",
            at("api", "evals", by_id(eval_id, "an evaluation"), "searches", by_id(search_id, "a search")),
            EvalSearch,
        )

    def cancel_search(self, eval_id: str, search_id: str) -> EvalSearch:
        """End a search; what is done of it stays."""
        return self._transport.request(
            "POST",
            at(
                "api",
                "evals",
                by_id(eval_id, "an evaluation"),
                "searches",
                by_id(search_id, "a search"),
                "cancel",
            ),
            EvalSearch,
        )

    def apply(self, eval_id: str, search_id: str, *, trial: str | None = None) -> EvalApplied:
        """Deploy what the best trial changes in apps, as a new version of each.

        Which trial is deployed; the best, if none is named.
        """
        return self._transport.request(
            "POST",
            at(
                "api",
                "evals",
                by_id(eval_id, "an evaluation"),
                "searches",
                by_id(search_id, "a search"),
                "apply",
            ),
            EvalApplied,
            json=given(trial=trial),
        )
