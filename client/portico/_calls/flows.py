"""The requests of flows and deployed apps, and how to read what comes back. See `portico._calls`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from portico import _read as read
from portico._calls.call import Call, EventCall, Message
from portico._events import RunEvents
from portico.errors import InvalidRequest
from portico.flow import Flow
from portico.values import App, Applied, AppVersion, Change, CheckedFlow, Run, RunEvent, TraceStep


def flow_check(flow: Flow) -> Call[CheckedFlow]:
    return Call("POST", "/api/flows/check", checked, json={"flow": dict(flow.spec)})


def flow_run(flow: Flow, given: Any, history: Sequence[Message]) -> EventCall[RunEvent]:
    body = {
        "flow": dict(flow.spec),
        "input": given,
        "history": list(history),
        **({"functions": sorted(flow.functions)} if flow.functions else {}),
    }
    return EventCall("POST", "/api/flows/run", RunEvents, json=body)


def app_input(name: str, given: Any, session: str | None) -> EventCall[RunEvent]:
    body = {"input": given, **({"session": session} if session else {})}
    return EventCall("POST", _app(name, "/run"), RunEvents, json=body)


def app_deploy(
    name: str, kind: str, spec: Mapping[str, Any], note: str, expected: int | None
) -> Call[AppVersion]:
    body = {"name": name, "kind": kind, "spec": dict(spec), "note": note, "expected_version": expected}
    return Call("POST", "/api/apps", version, json=body)


def apply(
    configuration: Mapping[str, Any], folder: str, prune: Sequence[str], dry_run: bool
) -> Call[Applied]:
    body = {
        "configuration": dict(configuration),
        "folder": folder,
        "prune": list(prune),
        "dry_run": dry_run,
    }
    return Call("POST", "/api/apply", applied, json=body, slow=True)


def app_get(name: str) -> Call[App]:
    return Call("GET", _app(name), read.app)


def app_update(name: str, changes: Mapping[str, Any], note: str, expected: int | None) -> Call[AppVersion]:
    body = {"set": dict(changes), "note": note, "expected_version": expected}
    return Call("PATCH", _app(name), version, json=body)


def app_limit(name: str, limits: Mapping[str, int]) -> Call[None]:
    return Call("PATCH", _app(name), read.nothing, json={"limits": dict(limits)})


def app_drawing(name: str, format: str) -> Call[str]:
    return Call("GET", _app(name, "/drawing"), _text, query={"format": format}, raw=True)


def app_versions(name: str) -> Call[list[AppVersion]]:
    return Call("GET", _app(name, "/versions"), read.rows(version))


def app_roll_back(name: str, to: int | None) -> Call[AppVersion]:
    return Call("POST", _app(name, "/rollback"), version, json={"version": to})


def app_remove(name: str) -> Call[None]:
    return Call("DELETE", _app(name), read.nothing)


def run_trace(run_id: str, full: bool) -> Call[list[TraceStep]]:
    query = {"full": "true"} if full else {}
    return Call("GET", _run(run_id, "/trace"), steps, query=query)


def run_chart(run_id: str) -> Call[str]:
    return Call("GET", _run(run_id, "/trace"), _text, query={"format": "mermaid"}, raw=True)


def run_resume(run_id: str, start: str) -> Call[Run]:
    return Call("POST", _run(run_id, "/resume"), read.run, json={"from": start})


def run_fork(run_id: str, start: str, given: Any, new_input: bool) -> Call[Run]:
    body = {"from": start, "input": given, "new_input": new_input}
    return Call("POST", _run(run_id, "/fork"), read.run, json=body)


def _text(value: bytes) -> str:
    return value.decode()


def checked(value: Any) -> CheckedFlow:
    return read.value_of(CheckedFlow, value)


def version(value: Any) -> AppVersion:
    return read.value_of(AppVersion, value, warnings=tuple(value.get("warnings") or ()))


def applied(value: Any) -> Applied:
    changes = tuple(Change(**{**item, "detail": tuple(item["detail"])}) for item in value["changes"])
    return Applied(changes, bool(value["dry_run"]), tuple(value["ignored"]))


def steps(value: Any) -> list[TraceStep]:
    return [read.value_of(TraceStep, item) for item in value.get("steps") or ()]


def _app(name: str, rest: str = "") -> str:
    if name in ("", ".", ".."):
        raise InvalidRequest("Name an app.", param="name")
    return f"/api/apps/{quote(name, safe='')}{rest}"


def _run(run_id: str, rest: str) -> str:
    if run_id in ("", ".", ".."):
        raise InvalidRequest("Name a run by its id.", param="id")
    return f"/api/runs/{quote(run_id, safe='')}{rest}"
