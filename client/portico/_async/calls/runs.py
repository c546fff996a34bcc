# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.runs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._async.group import Group
from portico._request import at, by_id, without_none
from portico.schemas.flows import TraceStep
from portico.schemas.runs import Pruned, Replay, Run


class Runs(Group):
    """Executions: calls, ingests, downloads."""

    async def get(self, run_id: str) -> Run:
        """Return a run."""
        return await self._transport.request("GET", at("api", "runs", by_id(run_id, "a run")), Run)

    async def cancel(self, run_id: str) -> None:
        """Cancel a run and wait until it has stopped. A run that has ended stays unchanged."""
        return await self._transport.request(
            "POST", at("api", "runs", by_id(run_id, "a run"), "cancel"), None
        )

    async def prune(self, *, days: float | None = None, dry_run: bool | None = None) -> Pruned:
        """Remove old runs that have ended, together with their data, as the daemon does every hour.

        ``days``: minimum age of the runs to remove, instead of the setting ``keep_runs_days``; ``dry_run``:
        only count the runs.
        """
        return await self._transport.request(
            "POST", "/api/runs/prune", Pruned, json=without_none(days=days, dry_run=dry_run), slow=True
        )

    async def trace(
        self, run_id: str, *, full: bool | None = None, format: str | None = None
    ) -> Sequence[TraceStep]:
        """Return the steps of a flow run. ``full``: outputs are not truncated. ``mermaid``: a Gantt chart of the
        steps.

        ``svg``: the flow's diagram as it was when the run started; the box of each step has its path as
        ``data-step``. For a run that exists only in memory, the diagram is that of the deployed app.

        ``format``: ``json`` | ``mermaid`` | ``svg`` (default: ``json``).
        """
        return await self._transport.request(
            "GET",
            at("api", "runs", by_id(run_id, "a run"), "trace"),
            list[TraceStep],
            query=without_none(full=full, format=format),
            key="steps",
        )

    async def recording(self, run_id: str) -> dict[str, Any]:
        """Return the recording of an ended run of an app: its input, each call with its result, its output.
        Secrets are left out.

        The daemon keeps the recordings of recent runs in memory.
        """
        return await self._transport.request(
            "GET", at("api", "runs", by_id(run_id, "a run"), "recording"), dict[str, Any]
        )

    async def replay(
        self,
        recording: Mapping[str, Any],
        *,
        model: str | None = None,
        store: str | None = None,
        version: int | None = None,
        changes: Mapping[str, Any] | None = None,
        current: bool | None = None,
    ) -> Replay:
        """Run the app of a recording again, and compare the two runs. The recording answers the calls of models,
        stores and tools, so the replay reaches no network and changes nothing.

        A ``recording`` to replay, and the parts to exchange.

        ``model`` answers all chat requests, and ``store`` all searches, instead of the recording. ``version``
        is another version of the app. ``changes`` map places in the app's specification to other values, as
        in an update of the app. ``current``: the app, and the apps that it calls, run in their current
        versions instead of the recorded ones.
        """
        return await self._transport.request(
            "POST",
            "/api/runs/replay",
            Replay,
            json=without_none(
                recording=recording,
                model=model,
                store=store,
                version=version,
                changes=changes,
                current=current,
            ),
            slow=True,
        )

    async def resume(self, run_id: str, *, start: str | None = None) -> Run:
        """Resume a durable run that has ended: after its last finished step, or from a given step.

        ``from``: the path or name of the step to repeat, with all steps after it.
        """
        return await self._transport.request(
            "POST",
            at("api", "runs", by_id(run_id, "a run"), "resume"),
            Run,
            json=without_none(**{"from": start}),
        )
