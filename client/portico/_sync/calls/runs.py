# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.runs`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._request import at, by_id, given
from portico._sync.group import Group
from portico.schemas.flows import TraceStep
from portico.schemas.runs import Pruned, Run


class Runs(Group):
    """Executions: calls, ingests, downloads."""

    def get(self, run_id: str) -> Run:
        """One run."""
        return self._transport.request("GET", at("api", "runs", by_id(run_id, "a run")), Run)

    def cancel(self, run_id: str) -> None:
        """Stop a run, and wait until it has stopped. One that has ended stays as it is."""
        return self._transport.request("POST", at("api", "runs", by_id(run_id, "a run"), "cancel"), None)

    def prune(self, *, days: float | None = None, dry_run: bool | None = None) -> Pruned:
        """Remove ended runs that are old, with what hangs on them, as the daemon does every hour.

        ``days``: another age than the setting ``keep_runs_days`` says; ``dry_run`` only counts.
        """
        return self._transport.request(
            "POST", "/api/runs/prune", Pruned, json=given(days=days, dry_run=dry_run), slow=True
        )

    def trace(
        self, run_id: str, *, full: bool | None = None, format: str | None = None
    ) -> Sequence[TraceStep]:
        """The steps of a run of a flow. ``full``: outputs as they are, not cut. ``mermaid``: a gantt chart of
        them.

        ``svg``: the diagram of the flow as the run began with it; each step's box has its path as
        ``data-step``. Of a run in memory it is that of the deployed app.

        ``format``: ``json`` | ``mermaid`` | ``svg`` (default: ``json``).
        """
        return self._transport.request(
            "GET",
            at("api", "runs", by_id(run_id, "a run"), "trace"),
            list[TraceStep],
            query=given(full=full, format=format),
            key="steps",
        )

    def resume(self, run_id: str, *, start: str | None = None) -> Run:
        """Resume a durable run that has ended, after its last finished step or from a given one.

        ``from``: the step, by its path or name, that is done again with all that followed it.
        """
        return self._transport.request(
            "POST", at("api", "runs", by_id(run_id, "a run"), "resume"), Run, json=given(**{"from": start})
        )
