"""Schedules over HTTP: what runs when a schedule is due, with whose rights, and what does not run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, bindparam, text
from tests.api_server import ApiServer, api_server
from tests.registry_fixture import ScriptedServable

from portico_server.config import parse
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, InvalidRequest
from portico_server.core.principal import SYSTEM
from portico_server.core.request import AppInput, AppOutput, Request
from portico_server.core.servable import Card
from portico_server.db import runs
from portico_server.db import schedules as rows
from portico_server.features.schedules import schedules as service
from portico_server.features.schedules.schedules import ScheduleService

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAILY = {"cron": "0 7 * * *", "timezone": "Europe/Berlin"}

FLOW = {"portico_flow": 1, "step": {"op": "emit", "name": "said"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path_factory.mktemp("schedules"), require_key=True) as server:
        services = server.services
        await services.stores.start()

        async def echo(request: Request, context: Context) -> AppOutput:
            assert isinstance(request, AppInput)
            if request.value == "fail":
                raise Conflict("It is broken.", code="broken")
            return AppOutput([request.value, context.caller.id])

        for kind in ("store", "agent"):
            card = Card(f"echo-{kind}", "app", capabilities=frozenset({"app"}), labels={"app": kind})
            server.add(ScriptedServable(card, echo))
        yield server


@dataclass(frozen=True, slots=True)
class Planner:
    """A key and its schedules."""

    id: str
    secret: str
    served: ApiServer

    async def ask(self, method: str, path: str = "", body: Any = None, status: int = 200) -> Any:
        headers = {"authorization": f"Bearer {self.secret}"}
        answer = await self.served.client.request(method, f"/api/schedules{path}", json=body, headers=headers)
        assert answer.status_code == status, answer.text
        document = answer.json()
        return document["error"] if status >= 400 else document

    async def add(self, name: str = "mine", **fields: Any) -> str:
        schedule_body = {"name": name, "app": "echo-store", **DAILY, **fields}
        return str((await self.ask("POST", body=schedule_body))["id"])

    async def due(self, ref: str) -> None:
        """Make a schedule due and start the due runs."""

        def make(connection: Connection) -> None:
            statement = text("update schedules set next_at = 1 where id = :id and next_at is not null")
            connection.execute(statement.bindparams(bindparam("id", ref)))

        services = self.served.services
        await services.database.write(make)
        await services.features.get("schedules", ScheduleService).firing.begin_due()

    async def ended(self, run_id: str) -> runs.RunRow:
        """Return a run once it has ended."""
        services = self.served.services
        run = await services.runner.arrival(run_id, 60)
        if run is not None and run.task is not None:
            await asyncio.wait([run.task])
            await services.scheduler.wait_for_end(run_id)
        row = await services.database.read(runs.get, run_id)
        assert row is not None and row.finished_at is not None
        return row

    async def last(self, ref: str) -> dict[str, Any]:
        """Return the outcome of the last due time, once its run has ended."""
        [latest_run] = (await self.ask("GET", f"/{ref}/runs?limit=1"))["data"]
        if latest_run["run"] is not None:
            await self.ended(latest_run["run"])
            [latest_run] = (await self.ask("GET", f"/{ref}/runs?limit=1"))["data"]
        last: dict[str, Any] = latest_run
        return last


@pytest.fixture
def join(served: ApiServer) -> Any:
    async def key(*scopes: str) -> Planner:
        row, secret = await served.auth.create(
            "planner", scopes or ("chat", "apps:*:deploy", "stores:*:manage")
        )
        return Planner(row.id, secret, served)

    return key


@pytest.fixture
def crossed(served: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a context after which the first reader of the schedule sees its state from before the context."""

    @asynccontextmanager
    async def cross(ref: str) -> AsyncIterator[None]:
        read = rows.get
        row_before = await served.services.database.read(read, ref)
        yield

        def read_before(connection: Connection, schedule_id: str) -> Any:
            if schedule_id != ref:
                return read(connection, schedule_id)
            monkeypatch.setattr(rows, "get", read)
            return row_before

        monkeypatch.setattr(rows, "get", read_before)

    return cross


async def test_a_schedule_is_created_changed_shown_paused_and_removed(join: Any) -> None:
    key = await join()
    created_schedule = await key.ask(
        "POST", body={"name": "mine", "app": "echo-store", "input": {"q": 1}, **DAILY}
    )
    assert (
        created_schedule["missed"],
        created_schedule["overlap"],
        created_schedule["pause_after"],
        created_schedule["paused"],
    ) == ("once", "skip", 5, None)
    assert (
        created_schedule["shared"],
        created_schedule["key"],
        created_schedule["input"],
        created_schedule["store"],
    ) == (False, None, {"q": 1}, None)
    times = (await key.ask("GET", "/mine/next?count=3"))["data"]
    assert times[0] == created_schedule["next_at"] and len(times) == 3
    assert (await key.ask("POST", "/next", {**DAILY, "count": 3}))["data"] == times
    updated_schedule = await key.ask("PATCH", "/mine", {"every": "15m", "name": "other", "pause_after": 0})
    assert (updated_schedule["cron"], updated_schedule["every"], updated_schedule["name"]) == (
        None,
        "15m",
        "other",
    )
    first, second = (await key.ask("GET", "/other/next?count=2"))["data"]
    assert (first, second - first) == (updated_schedule["next_at"], 900)
    assert (await key.ask("GET", "/mine", status=404))["code"] == "schedule_not_found"
    assert (await key.ask("PATCH", "/other", {"input": None}))["input"] is None
    paused = await key.ask("POST", "/other/pause")
    assert (paused["paused"], paused["next_at"]) == (service.PAUSED_BY_HAND, None)
    assert (await key.ask("PATCH", "/other", {"every": "20m"}))["next_at"] is None
    resumed_schedule = await key.ask("POST", "/other/resume")
    assert resumed_schedule["paused"] is None and resumed_schedule["next_at"] > resumed_schedule["created_at"]
    assert [schedule["name"] for schedule in (await key.ask("GET"))["data"]] == ["other"]
    assert (await key.ask("DELETE", "/other"))["deleted"]
    assert (await key.ask("GET"))["data"] == []


async def test_a_due_time_begins_a_run_with_the_keys_rights(join: Any) -> None:
    key = await join()
    ref = await key.add(input={"q": 1})
    assert (await key.ask("GET", f"/{ref}/runs"))["data"] == []
    await key.due(ref)
    first_run = await key.last(ref)
    assert (first_run["status"], first_run["cause"], first_run["skipped"]) == ("completed", "missed", None)
    row = await key.ended(first_run["run"])
    assert (row.owner, row.result) == (key.id, [{"q": 1}, key.id])
    schedule = await key.ask("GET", f"/{ref}")
    assert schedule["next_at"] > row.created_at
    await key.ask("POST", f"/{ref}/pause")
    await key.due(ref)
    assert (await key.last(ref))["run"] == first_run["run"]
    manual_run_id = (await key.ask("POST", f"/{ref}/run"))["run"]
    assert (await key.ended(manual_run_id)).status == "completed"
    assert (await key.last(ref))["cause"] == "hand"


async def test_repeated_failures_are_reported_and_pause_the_schedule(join: Any) -> None:
    key = await join()
    ref = await key.add(input="fail", pause_after=2)
    for _ in range(2):
        run_id = (await key.ask("POST", f"/{ref}/run"))["run"]
        assert (await key.ended(run_id)).status == "failed"
    assert (await key.last(ref))["error"]["code"] == "broken"
    schedule = await key.ask("GET", f"/{ref}")
    assert (schedule["paused"], schedule["failures"]) == ("The last 2 runs failed: It is broken.", 2)
    assert (await key.ask("POST", f"/{ref}/resume"))["failures"] == 0


async def test_a_scheduled_flow_records_its_steps_and_an_agent_is_not_called_twice(join: Any) -> None:
    key = await join()
    headers = {"authorization": f"Bearer {key.secret}"}
    spec = {"name": "kept", "spec": {**FLOW, "durability": "normal"}}
    answer = await key.served.client.post("/api/apps", json=spec, headers=headers)
    assert answer.status_code == 200, answer.text
    ref = await key.add(app="kept", input="hello")
    run_id = (await key.ask("POST", f"/{ref}/run"))["run"]
    row = await key.ended(run_id)
    assert (row.status, row.result) == ("completed", "hello")
    trace = await key.served.client.get(f"/api/runs/{run_id}/trace", headers=headers)
    assert [step["path"] for step in trace.json()["steps"]] == ["said"]

    ref = await key.add("agent", app="echo-agent", input="hello")
    run_id = (await key.ask("POST", f"/{ref}/run"))["run"]
    row = await key.ended(run_id)
    assert row.status == "completed"
    # Interrupted after the call: the resumed run uses what its row contains.
    first = key.served.services.runner.get(run_id)
    await key.served.services.scheduler.again(row, SYSTEM)
    again = await key.served.services.runner.arrival(run_id, 60, after=first)
    assert again is not None
    row = await key.ended(run_id)
    assert row.error is not None and row.error["code"] == "effect_unknown"


async def test_a_schedule_syncs_a_store_and_is_refused_for_a_store_without_folder(
    join: Any, tmp_path: Path
) -> None:
    key, admin = await join(), await join("admin")
    folder = tmp_path / "papers"
    folder.mkdir()
    headers = {"authorization": f"Bearer {admin.secret}"}
    store_response = await admin.served.client.post(
        "/api/stores", json={"name": "papers", "folder": str(folder)}, headers=headers
    )
    assert store_response.status_code == 200, store_response.text
    ref = await admin.add("papers", app=None, store="papers", every="1d", cron=None, timezone=None)
    run_id = (await admin.ask("POST", f"/{ref}/run"))["run"]
    row = await admin.ended(run_id)
    assert row.status == "completed" and row.result["run"].startswith("run_")
    readers = [
        await join(scope)
        for scope in ("stores:papers:read", f"stores:{store_response.json()['id']}:read", "stores:other:read")
    ]
    assert [[schedule["id"] for schedule in (await reader.ask("GET"))["data"]] for reader in readers] == [
        [ref],
        [ref],
        [],
    ]
    assert (await readers[1].ask("GET", "/papers"))["id"] == ref
    await readers[2].ask("GET", "/papers", status=404)
    await readers[1].ask("POST", "/papers/run", status=403)
    await admin.ask("DELETE", "/papers")
    by_id = await admin.add(
        "by-id", app=None, store=store_response.json()["id"], every="1d", cron=None, timezone=None
    )
    for reader, status in zip(readers, (200, 200, 404), strict=True):
        await reader.ask("GET", f"/{by_id}", status=status)
    await admin.ask("DELETE", f"/{by_id}")
    await key.served.client.post(
        "/api/stores", json={"name": "own"}, headers={"authorization": f"Bearer {key.secret}"}
    )
    schedule_body = {"name": "own", "store": "own", "every": "1h"}
    assert (await key.ask("POST", body=schedule_body, status=400))["code"] == "no_folder"
    assert (await key.ask("POST", body={**schedule_body, "store": "none"}, status=404))[
        "code"
    ] == "store_not_found"
    assert (await key.ask("POST", body={**schedule_body, "input": 1}, status=400))["param"] == "input"


async def test_scheduled_runs_use_current_rights_and_stop_for_a_revoked_key(join: Any) -> None:
    key, admin = await join(), await join("admin")
    poor = await join("chat", "apps:other:call")
    assert (await poor.ask("POST", body={"name": "a", "app": "echo-store", **DAILY}, status=403))["message"]
    ref = await key.add()
    await key.served.auth.revoke(key.id)
    schedule = await admin.ask("GET", f"/{ref}")
    assert "revoked" in schedule["paused"] and schedule["next_at"] is None and schedule["key"] == key.id
    await admin.due(ref)
    assert (await admin.ask("GET", f"/{ref}/runs"))["data"] == []
    assert (await admin.ask("POST", f"/{ref}/run", status=403))["code"] == "key_revoked"
    assert (await admin.ask("POST", f"/{ref}/resume", status=403))["code"] == "key_revoked"

    second_admin, heir = await join("admin"), await join("admin")
    shared_ref = await second_admin.add("shared")
    await second_admin.served.auth.revoke(second_admin.id)
    assert "revoked" in (await heir.ask("GET", f"/{shared_ref}"))["paused"]
    assert (await heir.ask("POST", f"/{shared_ref}/resume"))["key"] == heir.id
    assert (await heir.ended((await heir.ask("POST", f"/{shared_ref}/run"))["run"])).owner == heir.id
    await heir.ask("DELETE", f"/{shared_ref}")


async def test_a_shared_schedule_is_visible_to_target_users_and_changed_only_by_admins(join: Any) -> None:
    admin, reader = await join("admin"), await join("apps:echo-store:call")
    stranger = await join("chat")
    ref = await admin.add("house")
    assert (await reader.ask("GET", "/house"))["id"] == ref
    assert [schedule["name"] for schedule in (await reader.ask("GET"))["data"]] == ["house"]
    assert (await stranger.ask("GET"))["data"] == []
    await stranger.ask("GET", "/house", status=404)
    for method, path in (
        ("POST", "/run"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("PATCH", ""),
        ("DELETE", ""),
    ):
        body = {} if method == "PATCH" else None
        await reader.ask(method, f"/house{path}", body, status=403)
    schedule_body = {"name": "house", "app": "echo-store", **DAILY}
    assert (await reader.ask("POST", body=schedule_body, status=409))["code"] == "name_taken"
    await admin.ask("DELETE", "/house")


async def test_a_key_above_its_schedule_limit_is_refused(join: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_SCHEDULES", 1)
    key = await join()
    await key.add()
    schedule_body = {"name": "more", "app": "echo-store", **DAILY}
    assert (await key.ask("POST", body=schedule_body, status=409))["code"] == "too_many_schedules"
    assert (await key.ask("POST", body={**schedule_body, "app": "none"}, status=404))["param"] == "model"
    assert (await key.ask("POST", body={**schedule_body, "every": "1s", "cron": None}, status=400))[
        "param"
    ] == "every"
    assert (await key.ask("POST", "/next", {"cron": "x"}, status=400))["code"] == "invalid_cron"


async def test_a_configuration_creates_changes_and_prunes_schedules(
    served: ApiServer, tmp_path: Path
) -> None:
    reconciler = served.services.reconciler

    async def applied(
        *entries: dict[str, Any], prune: bool = False
    ) -> list[tuple[str, str, tuple[str, ...]]]:
        configuration = parse({"schedules": list(entries)}, tmp_path, {})
        kinds = ("schedules",) if prune else ()
        done = await reconciler.apply(configuration, SYSTEM, prune=kinds)
        return [(change.name, change.action, change.detail) for change in done]

    entry = {"name": "nightly", "app": "echo-store", "input": "hello", "cron": "@daily"}
    assert await applied(entry) == [("nightly", "create", ())]
    assert await applied(entry) == [("nightly", "unchanged", ())]
    assert await applied({**entry, "every": "1h", "cron": None}) == [("nightly", "change", ("cron", "every"))]
    with pytest.raises(InvalidRequest) as error:
        await applied({**entry, "app": "gone"})
    assert error.value.param == "schedules[0].app"
    with pytest.raises(InvalidRequest) as error:
        parse({"schedules": [{**entry, "cron": "x"}]}, tmp_path, {})
    assert error.value.param == "schedules[0].cron"
    assert await applied(prune=True) == [("nightly", "remove", ())]
    assert not await served.services.features.get("schedules", ScheduleService).list_shared()


@pytest.mark.parametrize(
    ("first", "second", "expected", "is_due"),
    [
        pytest.param(
            ("POST", "/pause", None),
            ("PATCH", "", {"every": "1h"}),
            {"paused": service.PAUSED_BY_HAND, "every": "1h", "cron": None},
            False,
            id="paused-and-changed",
        ),
        pytest.param(
            ("POST", "/pause", None),
            ("POST", "/resume", None),
            {"paused": None},
            True,
            id="paused-and-resumed",
        ),
        pytest.param(
            ("PATCH", "", {"cron": "0 8 * * *"}),
            ("PATCH", "", {"pause_after": 3}),
            {"cron": "0 8 * * *", "pause_after": 3},
            True,
            id="changed-twice",
        ),
        pytest.param(
            ("PATCH", "", {"name": "renamed", "every": "15m"}),
            ("PATCH", "", {"cron": "0 8 * * *"}),
            {"name": "renamed", "cron": "0 8 * * *", "every": None},
            True,
            id="renamed-and-changed",
        ),
    ],
)
async def test_concurrent_schedule_changes_do_not_undo_each_other(
    join: Any, crossed: Any, first: Any, second: Any, expected: dict[str, Any], is_due: bool
) -> None:
    key = await join()
    ref = await key.add()
    async with crossed(ref):
        await key.ask(first[0], f"/{ref}{first[1]}", first[2])
    await key.ask(second[0], f"/{ref}{second[1]}", second[2])
    schedule = await key.ask("GET", f"/{ref}")
    assert {name: schedule[name] for name in expected} == expected
    assert (schedule["next_at"] is not None) == is_due


async def test_a_manual_run_uses_the_current_state_of_the_schedule(join: Any, crossed: Any) -> None:
    key = await join()
    ref = await key.add(input={"q": 1})
    async with crossed(ref):
        await key.ask("PATCH", f"/{ref}", {"input": {"q": 2}})
    run_id = (await key.ask("POST", f"/{ref}/run"))["run"]
    assert (await key.ended(run_id)).result == [{"q": 2}, key.id]
    async with crossed(ref):
        await key.ask("DELETE", f"/{ref}")
    assert (await key.ask("POST", f"/{ref}/run", status=409))["code"] == "schedule_removed"
