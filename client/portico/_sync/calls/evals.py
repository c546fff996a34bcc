# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.evals`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._read import Page
from portico._request import at, by_id, without_none
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

        A new name or new metadata for an evaluation.
        """
        return self._transport.request(
            "POST",
            at("v1", "evals", by_id(eval_id, "an evaluation")),
            Eval,
            json=without_none(name=name, metadata=metadata),
        )

    def remove(self, eval_id: str) -> None:
        """Delete an evaluation with its runs and searches. Runs and searches in progress are cancelled."""
        return self._transport.request("DELETE", at("v1", "evals", by_id(eval_id, "an evaluation")), None)

    def get_run(self, eval_id: str, run_id: str) -> EvalRun:
        """Return one run of an evaluation, with its results so far."""
        return self._transport.request(
            "GET", at("v1", "evals", by_id(eval_id, "an evaluation"), "runs", by_id(run_id, "a run")), EvalRun
        )

    def cancel_run(self, eval_id: str, run_id: str) -> EvalRun:
        """Cancel a run of an evaluation; its results so far are kept. Older clients omit ``/cancel``."""
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
        """Return the results of the finished items.

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
            query=without_none(after=after, limit=limit, order=order, status=status),
        )

    def searches(self, eval_id: str, *, limit: int | None = None) -> Sequence[EvalSearch]:
        """List the searches of an evaluation without their trials, newest first.

        ``limit``: (default: ``20``).
        """
        return self._transport.request(
            "GET",
            at("api", "evals", by_id(eval_id, "an evaluation"), "searches"),
            list[EvalSearch],
            query=without_none(limit=limit),
        )

    def get_search(self, eval_id: str, search_id: str) -> EvalSearch:
        """Return a search with its trials, best first."""
        return self._transport.request(
            "GET",
            at("api", "evals", by_id(eval_id, "an evaluation"), "searches", by_id(search_id, "a search")),
            EvalSearch,
        )

    def cancel_search(self, eval_id: str, search_id: str) -> EvalSearch:
        """Cancel a search; its results so far are kept."""
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
        """Deploy the best trial's changes to apps, as a new version of each app.

        The id of the trial to deploy; by default the best trial.
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
            json=without_none(trial=trial),
        )
