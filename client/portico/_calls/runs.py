"""Requests about runs and artifacts."""

from __future__ import annotations

from portico import _read as read
from portico._calls.call import Call, EventCall, at, given, named
from portico._events import RunEvents
from portico.values import (
    Artifact,
    Pruned,
    Run,
    RunEvent,
)


def runs_list(limit: int) -> Call[list[Run]]:
    return Call("GET", "/api/runs", read.rows(read.run), query={"limit": limit})


def run_get(run_id: str) -> Call[Run]:
    return Call("GET", at("api", "runs", named(run_id, "a run")), read.run)


def run_cancel(run_id: str) -> Call[None]:
    return Call("POST", at("api", "runs", named(run_id, "a run"), "cancel"), read.nothing)


def runs_prune(days: float | None, dry_run: bool) -> Call[Pruned]:
    body = given(days=days, dry_run=dry_run)
    return Call("POST", "/api/runs/prune", read.pruned, json=body, slow=True)


def run_events(run_id: str, after: int) -> EventCall[RunEvent]:
    headers = {"last-event-id": str(after)} if after else {}
    path = at("api", "runs", named(run_id, "a run"), "events")
    return EventCall("GET", path, RunEvents, headers=headers)


def artifacts_list(run: str | None, limit: int) -> Call[list[Artifact]]:
    return Call("GET", "/api/artifacts", read.rows(read.artifact), query=given(run=run, limit=limit))


def artifact_get(artifact_id: str) -> Call[Artifact]:
    return Call("GET", at("api", "artifacts", named(artifact_id, "an artifact")), read.artifact)


def artifact_content(artifact_id: str) -> Call[bytes]:
    path = at("api", "artifacts", named(artifact_id, "an artifact"), "content")
    return Call("GET", path, bytes, raw=True, slow=True)


def artifact_remove(artifact_id: str) -> Call[None]:
    return Call("DELETE", at("api", "artifacts", named(artifact_id, "an artifact")), read.nothing)
