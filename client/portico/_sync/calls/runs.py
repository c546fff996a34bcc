# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.runs`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._request import at, by_id, without_none
from portico._sync.group import Group
from portico.schemas.flows import TraceStep
from portico.schemas.runs import Pruned, Run


class Runs(Group):
    """Executions: calls, ingests, downloads."""

    def get(self, run_id: str) -> Run:
        """Return a run."""
        return self._transport.request("GET", at("api", "runs", by_id(run_id, "a run")), Run)

    def cancel(self, run_id: str) -> None:
        """Cancel a run and wait until it has stopped. A run that has ended stays unchanged."""
        return self._transport.request("POST", at("api", "runs", by_id(run_id, "a run"), "cancel"), None)

    def prune(self, *, days: float | None = None, dry_run: bool | None = None) -> Pruned:
        """Remove old runs that have ended, together with their data, as the daemon does every hour.

        ``days``: minimum age of the runs to remove, instead of the setting ``keep_runs_days``; ``dry_run``:
        only count the runs.
        """
        return self._transport.request(
            "POST", "/api/runs/prune", Pruned, json=without_none(days=days, dry_run=dry_run), slow=True
        )

    def trace(
        self, run_id: str, *, full: bool | None = None, format: str | None = None
    ) -> Sequence[TraceStep]:
        """Return the steps of a flow run. ``full``: outputs are not truncated. ``mermaid``: a Gantt chart of the
        steps.

        ``svg``: the flow's diagram as it was when the run started; the box of each step has its path as
        ``data-step``. For a run that exists only in memory, the diagram is that of the deployed app.

        ``format``: ``json`` | ``mermaid`` | ``svg`` (default: ``json``).
        """
        return self._transport.request(
            "GET",
            at("api", "runs", by_id(run_id, "a run"), "trace"),
            list[TraceStep],
            query=without_none(full=full, format=format),
            key="steps",
        )

    def resume(self, run_id: str, *, start: str | None = None) -> Run:
        """Resume a durable run that has ended: after its last finished step, or from a given step.

        ``from``: the path or name of the step to repeat, with all steps after it.
        """
        return self._transport.request(
            "POST",
            at("api", "runs", by_id(run_id, "a run"), "resume"),
            Run,
            json=without_none(**{"from": start}),
        )
