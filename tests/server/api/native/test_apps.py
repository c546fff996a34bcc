"""``/api/apps`` beyond deploying: single fields, limits, pictures, and access rights."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from tests import daemon as daemons
from tests.daemon import Daemon

from portico import Client, Conflict, InvalidRequest, NotFound, PorticoError
from portico.wire import Asked

STORY: dict[str, Any] = {
    "portico_flow": 1,
    "step": {
        "op": "pipeline",
        "name": "story",
        "steps": [
            {"name": "outline", "op": "llm", "system": "Outline."},
            {
                "name": "chapters",
                "op": "warp",
                "over": [1, 2],
                "step": {"name": "write", "op": "llm", "system": "Write.", "user": "Chapter"},
            },
            {
                "name": "route",
                "op": "switch",
                "on": 1,
                "cases": [{"equals": 1, "step": {"name": "one", "op": "emit", "text": "one"}}],
                "default": {"name": "write", "op": "emit", "text": "other"},
            },
        ],
    },
}


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.url) as sdk_client:
        yield sdk_client
        for app in sdk_client.apps.list():
            if app.kind != "store":
                sdk_client.apps.remove(app.name)


@pytest.mark.parametrize(
    ("place", "way"),
    [
        ("outline.system", ("step", "steps", 0, "system")),
        ("story.outline.system", ("step", "steps", 0, "system")),
        ("step.steps[0].system", ("step", "steps", 0, "system")),
        ("chapters.write.system", ("step", "steps", 1, "step", "system")),
        ("chapters.step.system", ("step", "steps", 1, "step", "system")),
        ("one.text", ("step", "steps", 2, "cases", 0, "step", "text")),
        ("route.cases[0].equals", ("step", "steps", 2, "cases", 0, "equals")),
        ("route.default.text", ("step", "steps", 2, "default", "text")),
        ("outline.options.temperature", ("step", "steps", 0, "options", "temperature")),
        ("description", ("description",)),
    ],
)
def test_a_field_to_update_is_addressed_by_its_step_names(
    client: Client, place: str, way: tuple[str | int, ...]
) -> None:
    client.apps.deploy("story", STORY)
    app = client.apps.update("story", {place: 0.5 if "temperature" in place else "new"})
    assert (app.version, app.note) == (2, f"set {place}")
    value: Any = app.spec
    for key in way:
        value = value[key]
    assert value in ("new", 0.5)
    assert client.apps.versions("story")[1].spec == STORY


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"outlin.system": "x"}, "Did you mean 'outline'"),
        ({"outline.sistem": "x"}, "no field 'sistem'"),
        ({"outline.options.x.y": 1}, "does not exist: 'options' was not found"),
        ({"write.system": "x"}, "2 steps are named 'write'"),
        ({"chapters.steps[7].system": "x"}, "does not exist: "),
        ({"step.steps[7].system": "x"}, "'7' was not found"),
        ({"": "x"}, "is not a valid place"),
        ({"outline..system": "x"}, "is not a valid place"),
        ({"outline.model": "nobody"}, "flow.step.steps[0].model"),
        ({"outline.op": None}, "needs 'op'"),
    ],
)
def test_an_invalid_update_is_refused_and_creates_no_version(
    client: Client, changes: dict[str, Any], said: str
) -> None:
    client.apps.deploy("story", STORY)
    with pytest.raises(PorticoError) as error_info:
        client.apps.update("story", changes)
    assert said in error_info.value.message
    assert [version.version for version in client.apps.versions("story")] == [1]


def test_a_field_is_taken_away_and_several_are_changed_at_once(client: Client) -> None:
    client.apps.deploy("story", STORY)
    app = client.apps.update("story", {"outline.system": None, "chapters.concurrency": 3}, note="two")
    steps = app.spec["step"]["steps"]
    assert "system" not in steps[0] and steps[1]["concurrency"] == 3 and app.note == "two"


def test_an_unnamed_step_is_addressed_by_its_operation_and_position(client: Client) -> None:
    inner = {
        "op": "pipeline",
        "steps": [{"op": "llm"}, {"op": "branch", "condition": True, "then": {"op": "emit"}}],
    }
    client.apps.deploy("bare", {"portico_flow": 1, "step": inner})
    app = client.apps.update("bare", {"llm1.system": "x", "branch2.emit1.text": "y", "pipeline1.output": 1})
    steps = app.spec["step"]["steps"]
    assert (steps[0]["system"], steps[1]["then"]["text"], app.spec["step"]["output"]) == ("x", "y", 1)


def test_a_nested_agent_is_addressed_by_name_like_a_step(client: Client) -> None:
    inner = {"portico_agent": 1, "name": "writer", "instructions": "Write."}
    team = {"portico_agent": 1, "name": "team", "agents": [{"agent": inner, "as": "tool"}]}
    client.apps.deploy("team", team, kind="agent")
    app = client.apps.update("team", {"writer.instructions": "Write well.", "instructions": "Lead."})
    assert app.spec["agents"][0]["agent"]["instructions"] == "Write well."
    assert app.spec["instructions"] == "Lead."


def test_the_second_update_of_the_same_version_is_refused_as_a_conflict(client: Client) -> None:
    client.apps.deploy("story", STORY)
    client.apps.update("story", {"outline.system": "a"}, expected_version=1)
    with pytest.raises(Conflict) as error_info:
        client.apps.update("story", {"outline.system": "b"}, expected_version=1)
    assert error_info.value.code == "version_conflict"


def test_a_conversation_continues_with_the_new_version_of_its_agent(client: Client) -> None:
    client.apps.deploy(
        "clerk", {"portico_agent": 1, "name": "clerk", "instructions": "Be kind."}, kind="agent"
    )
    client.apps.run("clerk", "first", session="s")
    client.apps.update("clerk", {"instructions": "Be brief.", "options.temperature": 0.1})
    client.apps.run("clerk", "second", session="s")
    (session,) = client.sessions.list("clerk", name="s")
    contents = [item.message["content"] for item in client.sessions.messages(session.id)]
    assert contents == ["first", "first", "second", "second"]


def test_a_run_in_progress_ends_with_the_version_that_it_began_with(client: Client) -> None:
    spec = {
        "portico_flow": 1,
        "step": {
            "op": "pipeline",
            "steps": [
                {"op": "approve", "message": "Go?"},
                {"name": "last", "op": "code", "source": "lambda v: 'old'"},
            ],
        },
    }
    client.apps.deploy("slow", spec)
    running = client.apps.start("slow", "x")
    question = next(event for event in running.events() if isinstance(event, Asked))
    client.apps.update("slow", {"last.source": "lambda v: 'new'"})
    client.questions.answer(question.id, True)
    assert running.result() == "old"


def test_concurrent_calls_of_an_app_are_limited_across_protocols(client: Client, daemon: Daemon) -> None:
    client.apps.deploy("slow", {"portico_flow": 1, "step": {"op": "approve", "message": "Go?"}})
    client.apps.limit("slow", {"concurrency": 1})
    running = client.apps.start("slow", "x")
    question = next(event for event in running.events() if isinstance(event, Asked))
    body = {"model": "slow", "messages": [{"role": "user", "content": "x"}]}
    for path, request_body in (("/api/apps/slow/run", {"input": "x"}), ("/v1/chat/completions", body)):
        response = httpx.post(daemon.url + path, json=request_body)
        assert response.status_code == 429 and "for the app 'slow' on concurrent calls" in response.text
        assert float(response.headers["retry-after"]) >= 0
    client.questions.answer(question.id, True)
    assert running.result() == "x"
    client.apps.limit("slow", {})
    # Without a limit, this call waits until its listener leaves.
    again = client.apps.start("slow", "x")
    next(event for event in again.events() if isinstance(event, Asked))
    again.close()


def test_an_update_with_an_invalid_limit_is_refused_as_a_whole(client: Client, daemon: Daemon) -> None:
    client.apps.deploy("story", STORY)
    body = {"set": {"outline.system": "x"}, "limits": {"speed": 3}}
    response = httpx.patch(f"{daemon.url}/api/apps/story", json=body)
    assert response.status_code == 400 and "'speed' is not a limit" in response.text
    assert client.apps.get("story").version == 1 and client.apps.get("story").limits is None


@pytest.mark.parametrize("number", ["9" * 5_000, "\u00b2", "99"])
def test_an_invalid_step_index_is_refused_in_every_notation(
    client: Client, daemon: Daemon, number: str
) -> None:
    client.apps.deploy("story", STORY)
    for place in (f"steps.{number}", f"steps.{number}.system"):
        response = httpx.patch(f"{daemon.url}/api/apps/story", json={"set": {place: "x"}})
        assert response.status_code in (400, 404), response.text
        assert response.json()["error"]["param"] == "set"
    assert client.apps.get("story").version == 1


@pytest.mark.slow
def test_limits_and_their_usage_survive_a_restart(tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    models.write_text('models: [{name: echo, source: "fake://", aliases: [default]}]\n', encoding="utf-8")
    with daemons.running(tmp_path / "home", "--file", str(models)) as daemon, Client(daemon.url) as client:
        client.apps.deploy("talk", {"portico_flow": 1, "step": {"op": "llm"}})
        client.apps.limit("talk", {"tokens_per_day": 1})
        assert client.apps.run("talk", "a") == "a"
    with daemons.running(tmp_path / "home", "--file", str(models)) as daemon, Client(daemon.url) as client:
        assert client.apps.get("talk").limits == {"tokens_per_day": 1}
        with pytest.raises(PorticoError) as error_info:
            client.apps.run("talk", "b")
        assert error_info.value.status == 429 and "tokens per day" in error_info.value.message


def test_parallel_calls_do_not_exceed_the_request_limit(client: Client) -> None:
    client.apps.deploy("echo2", {"portico_flow": 1, "step": {"op": "emit"}})
    client.apps.limit("echo2", {"requests_per_minute": 1})
    done: list[bool] = []

    def call() -> None:
        try:
            done.append(client.apps.run("echo2", "a") == "a")
        except PorticoError:
            done.append(False)

    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == 1 and len(done) == 12


def test_the_drawing_of_an_app_contains_every_step(client: Client, daemon: Daemon) -> None:
    client.apps.deploy("story", STORY)
    drawing = client.apps.drawing("story")
    for name in ("outline", "write", "one", "route"):
        assert name in drawing
    root = ET.fromstring(client.apps.drawing("story", "svg"))
    texts = {item.text for item in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"outline", "write", "one", "input", "output"} <= texts
    answer = httpx.get(f"{daemon.url}/api/apps/story/drawing", params={"format": "svg"})
    assert answer.headers["content-type"] == "image/svg+xml"
    client.apps.deploy(
        "team",
        {"portico_agent": 1, "name": "team", "tools": ["calculator"], "agents": [{"agent": "story"}]},
        kind="agent",
    )
    assert "tool/calculator" in client.apps.drawing("team") and "story" in client.apps.drawing("team", "svg")
    with pytest.raises(NotFound):
        client.apps.drawing("handbook")


def test_who_may_call_an_app_may_not_change_it(client: Client, daemon: Daemon) -> None:
    client.apps.deploy("story", STORY)
    caller_key = client.keys.add("caller", ["apps:story:call"])
    stranger_key = client.keys.add("stranger", ["chat"])
    with Client(daemon.url, caller_key.key) as caller, Client(daemon.url, stranger_key.key) as stranger:
        assert caller.apps.get("story").version == 1
        for attempt in (
            lambda: caller.apps.update("story", {"outline.system": "x"}),
            lambda: caller.apps.limit("story", {"concurrency": 1}),
            lambda: caller.apply({}),
        ):
            with pytest.raises(PorticoError) as error_info:
                attempt()
            assert error_info.value.status == 403
        with pytest.raises(PorticoError) as hidden:
            stranger.apps.drawing("story")
        assert hidden.value.status in (403, 404)
    for key in (caller_key, stranger_key):
        client.keys.revoke(key.id)


def test_the_published_flow_schema_accepts_valid_and_rejects_invalid_flows(daemon: Daemon) -> None:
    schema = httpx.get(f"{daemon.url}/api/schemas/flow").json()
    assert Draft202012Validator(schema).is_valid({**STORY, "name": "story"})
    assert not Draft202012Validator(schema).is_valid({"portico_flow": 1, "step": {"op": "dance"}})


def test_the_published_agent_schema_agrees_with_the_agent_check(daemon: Daemon) -> None:
    valid = Draft202012Validator(httpx.get(f"{daemon.url}/api/schemas/agent").json())
    for spec, is_one in (
        ({"portico_agent": 1, "name": "clerk", "tools": ["calculator"], "memory": "none"}, True),
        ({"portico_agent": 1, "toolz": []}, False),
        ({"portico_agent": 1, "agents": [{"agent": {"nmae": "pilot"}}]}, False),
        ({"name": "clerk"}, False),
    ):
        assert valid.is_valid(spec) == is_one, spec
        check_result = httpx.post(f"{daemon.url}/api/agents/check", json={"agent": spec}).json()
        error = check_result["error"] or {}
        assert (error.get("code") in ("unknown_field", "invalid_spec")) != is_one, check_result
    paths = httpx.get(f"{daemon.url}/openapi.json").json()["paths"]
    assert "/api/schemas/agent" in paths


def test_pruning_agents_does_not_remove_other_apps(client: Client) -> None:
    client.apps.deploy("story", STORY)
    for name in ("kept", "gone"):
        client.apps.deploy(name, {"portico_agent": 1, "name": name}, kind="agent")
    configuration = {"agents": [{"name": "kept"}]}
    result = client.apply(configuration, prune=["agents"])
    assert [change.name for change in result.changes if change.action == "remove"] == ["gone"]
    app_names = {app.name for app in client.apps.list()}
    assert {"story", "kept"} <= app_names and "gone" not in app_names


def test_applying_a_configuration_with_invalid_options_is_refused(client: Client) -> None:
    for options, error_text in (
        ({"prune": ["apples"]}, "Did you mean 'apps'"),
        ({"folder": "here"}, "absolute path"),
    ):
        with pytest.raises(InvalidRequest) as error_info:
            client.apply({}, **options)  # type: ignore[arg-type]
        assert error_text in error_info.value.message
