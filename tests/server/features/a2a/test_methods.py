"""The Agent2Agent protocol, used by its official client: tasks of models and agents, in both bindings."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, create_client
from a2a.helpers.proto_helpers import get_artifact_text, new_data_message, new_text_message
from a2a.types import a2a_pb2 as types
from a2a.utils.errors import (
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from google.protobuf.json_format import ParseDict
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.api.openai.conftest import KEYS, bearer
from tests.server.features.webhooks.receiver import Receiver, receiving

from portico_server.db.rows import MAX_PAGE_CHARS
from portico_server.features.a2a.methods import METHODS, STREAMS

REPLIES = [
    {"match": r"^fail", "error": {"status": 400, "message": "No.", "code": "refused"}},
    {"match": r"^hang", "content": "one two three", "hang": 2},
    {"match": r"^empty it", "times": 1, "tool_calls": [{"name": "empty", "arguments": {}}]},
    {"match": r"^empty it", "content": "Done."},
]
KEY = {
    "name": "three",
    "key": "three-secret-key-of-the-tests",
    "scopes": ["chat", "apps:*:call", "tools:*:call"],
}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as opened_receiver:
        yield opened_receiver


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Daemon]:
    """A daemon that requires keys, with an agent whose tool asks for approval."""
    home = tmp_path_factory.mktemp("a2a")
    models = [
        {"name": "echo", "source": "fake://", "aliases": ["default"]},
        {"name": "clever", "source": "fake://", "parameters": {"script": {"replies": REPLIES}}},
        {"name": "vectors", "source": "fake://", "task": "embedding", "parameters": {"dimensions": 8}},
    ]
    agents = [
        {
            "name": "desk",
            "title": "The desk",
            "description": "Remembers.",
            "portico_agent": 1,
            "model": "echo",
        },
        {"name": "janitor", "portico_agent": 1, "model": "clever", "tools": ["empty"]},
    ]
    tools = [{"name": "empty", "command": ["echo", "emptied"], "approval": "always"}]
    configuration = {"models": models, "agents": agents, "tools": tools, "keys": [*KEYS, KEY]}
    (home / "a2a.yaml").write_text(json.dumps(configuration), encoding="utf-8")
    env = {"PORTICO_REQUIRE_KEY": "true", "PORTICO_TOOL_HOSTS": f"127.0.0.1:{receiver.port}"}
    with daemons.running(home / "data", "--file", str(home / "a2a.yaml"), env=env) as running:
        yield running


@asynccontextmanager
async def agent(
    daemon: Daemon,
    name: str = "echo",
    key: str = "three",
    binding: str = "JSONRPC",
    *,
    streaming: bool = False,
) -> AsyncIterator[Client]:
    """Open the official client of one agent, built from the agent's own card."""
    async with httpx.AsyncClient(headers=bearer(key), timeout=60) as http:
        card = await A2ACardResolver(http, f"{daemon.url}/a2a/{name}").get_agent_card()
        config = ClientConfig(streaming=streaming, httpx_client=http, supported_protocol_bindings=[binding])
        client = await create_client(card, config)
        yield client
        await client.close()


def said(text: str, **more: Any) -> types.SendMessageRequest:
    message = new_text_message(text, role=types.ROLE_USER, **more)
    return types.SendMessageRequest(message=message)


async def answered(client: Client, request: types.SendMessageRequest) -> types.Task:
    [event] = [item async for item in client.send_message(request)]
    return event.task


STATE = types.TaskState


@pytest.mark.conformance("A2A", "Agent cards", "a2a-sdk")
async def test_cards_say_where_an_agent_is_and_what_it_needs(daemon: Daemon) -> None:
    async with httpx.AsyncClient(headers=bearer("three"), timeout=60) as http:
        # Lists contain what already exists; a request for a single entry waits for its tool.
        (await http.get(f"{daemon.url}/a2a/janitor/.well-known/agent-card.json")).raise_for_status()
        root = await A2ACardResolver(http, daemon.url).get_agent_card()
        desk = await A2ACardResolver(http, f"{daemon.url}/a2a/desk").get_agent_card()
        response = await http.get(f"{daemon.url}/a2a/vectors/.well-known/agent-card.json")
        unknown = await http.get(f"{daemon.url}/a2a/nobody/.well-known/agent-card.json")
        posted = await http.post(f"{daemon.url}/.well-known/agent-card.json", json={})
    assert (desk.name, desk.description, desk.skills[0].id) == ("The desk", "Remembers.", "desk")
    assert [
        (interface.protocol_binding, interface.protocol_version, interface.url)
        for interface in desk.supported_interfaces
    ] == [(binding, "1.0", f"{daemon.url}/a2a/desk") for binding in ("JSONRPC", "HTTP+JSON")]
    assert desk.capabilities.streaming and desk.capabilities.push_notifications
    assert desk.security_schemes["key"].http_auth_security_scheme.scheme == "Bearer"
    assert "key" in desk.security_requirements[0].schemes
    assert {"echo", "desk", "janitor"} <= {skill.id for skill in root.skills}
    assert (response.status_code, unknown.status_code, posted.status_code) == (400, 404, 405)
    error = unknown.json()["error"]
    assert (error["code"], error["status"]) == (404, "NOT_FOUND")
    async with httpx.AsyncClient(timeout=60) as http:
        nameless = await http.get(f"{daemon.url}/.well-known/agent-card.json")
    assert nameless.status_code == 401 and nameless.json()["error"]["status"] == "UNAUTHENTICATED"
    assert nameless.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.conformance("A2A", "Messages and tasks", "a2a-sdk")
@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_a_message_becomes_a_task_that_is_kept(daemon: Daemon, binding: str) -> None:
    async with agent(daemon, "desk", binding=binding) as client:
        task = await answered(client, said("good morning"))
        assert task.status.state == STATE.TASK_STATE_COMPLETED
        assert [get_artifact_text(entry) for entry in task.artifacts] == ["good morning"]
        assert [(entry.role, entry.parts[0].text) for entry in task.history] == [
            (types.ROLE_USER, "good morning")
        ]
        again = await answered(client, said("and again", context_id=task.context_id))
        assert again.context_id == task.context_id and again.id != task.id
        fetched_task = await client.get_task(types.GetTaskRequest(id=task.id, history_length=0))
        assert fetched_task.artifacts == task.artifacts and not fetched_task.history
        task_page = await client.list_tasks(types.ListTasksRequest(context_id=task.context_id, page_size=1))
        assert ([entry.id for entry in task_page.tasks], task_page.total_size) == ([again.id], 2)
        assert not task_page.tasks[0].artifacts
        next_page = await client.list_tasks(
            types.ListTasksRequest(
                context_id=task.context_id,
                page_size=1,
                page_token=task_page.next_page_token,
                include_artifacts=True,
                status=STATE.TASK_STATE_COMPLETED,
            )
        )
        assert [entry.id for entry in next_page.tasks] == [task.id] and next_page.tasks[0].artifacts
        assert next_page.next_page_token == ""
        own_task = await answered(client, said("mine", context_id=f"my own {binding}"))
        assert own_task.context_id == f"my own {binding}"
        with pytest.raises(TaskNotCancelableError):
            await client.cancel_task(types.CancelTaskRequest(id=task.id))
        with pytest.raises(UnsupportedOperationError):
            await answered(client, said("more", task_id=task.id))
        with pytest.raises(InvalidParamsError):
            await answered(client, said("more", task_id=task.id, context_id="another"))


@pytest.mark.conformance("A2A", "Streams", "a2a-sdk")
@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_a_task_is_followed_as_it_is_done(daemon: Daemon, binding: str) -> None:
    async with agent(daemon, binding=binding, streaming=True) as client:
        events = [event async for event in client.send_message(said("one two three"))]
        first, *updates, last = events
        assert first.HasField("task") and first.task.history[0].parts[0].text == "one two three"
        pieces = [event.artifact_update for event in updates if event.HasField("artifact_update")]
        text = "".join(part.text for piece in pieces for part in piece.artifact.parts)
        assert (text, pieces[0].append, pieces[-1].last_chunk) == ("one two three", False, True)
        assert last.status_update.status.state == STATE.TASK_STATE_COMPLETED
        ids = {event.task_id for event in pieces} | {last.status_update.task_id}
        assert ids == {first.task.id}
        with pytest.raises(UnsupportedOperationError):
            [event async for event in client.subscribe(types.SubscribeToTaskRequest(id=first.task.id))]
    async with agent(daemon, "clever", binding=binding, streaming=True) as client:
        *_before, last = [event async for event in client.send_message(said("fail"))]
        assert last.status_update.status.state == STATE.TASK_STATE_FAILED
        assert "No." in last.status_update.status.message.parts[0].text


async def test_a_task_continues_without_its_client_and_is_cancelled(daemon: Daemon) -> None:
    async with agent(daemon, "clever", streaming=True) as client:
        request = said("hang")
        request.configuration.return_immediately = True
        async for event in client.send_message(request):
            task_id = event.task.id
            break
        follower = client.subscribe(types.SubscribeToTaskRequest(id=task_id))
        events = [await anext(follower)]
        while not events[-1].HasField("artifact_update"):
            events.append(await anext(follower))
        assert events[0].task.id == task_id and "one" in events[-1].artifact_update.artifact.parts[0].text
        cancelled_task = await client.cancel_task(types.CancelTaskRequest(id=task_id))
        assert cancelled_task.status.state == STATE.TASK_STATE_CANCELED
        async for event in follower:
            events.append(event)
        assert events[-1].status_update.status.state == STATE.TASK_STATE_CANCELED


async def test_a_question_of_a_task_is_answered_by_its_client(daemon: Daemon, receiver: Receiver) -> None:
    async with agent(daemon, "janitor") as client:
        request = said("empty it")
        push = request.configuration.task_push_notification_config
        push.url, push.token = receiver.url("/task"), "my-token"
        push.authentication.scheme, push.authentication.credentials = "Bearer", "my-secret"
        task = await answered(client, request)
        assert task.status.state == STATE.TASK_STATE_INPUT_REQUIRED
        text, about = task.status.message.parts
        assert text.text and dict(about.data.struct_value)["kind"] == "approval"
        task_page = await client.list_tasks(types.ListTasksRequest(status=STATE.TASK_STATE_INPUT_REQUIRED))
        assert [notification.id for notification in task_page.tasks] == [task.id]
        with pytest.raises(InvalidParamsError, match="yes"):
            await answered(client, said("perhaps", task_id=task.id))
        refusal = new_data_message({"accepted": True}, role=types.ROLE_USER, task_id=task.id)
        done = await answered(client, types.SendMessageRequest(message=refusal))
        assert (done.id, done.status.state) == (task.id, STATE.TASK_STATE_COMPLETED)
        assert get_artifact_text(done.artifacts[-1]) == "Done."
        assert len(done.history) == 2
    notifications = [receiver.take("/task"), receiver.take("/task")]
    updates = [
        ParseDict(json.loads(notification.body), types.StreamResponse()).status_update
        for notification in notifications
    ]
    assert {notification.status.state for notification in updates} == {
        STATE.TASK_STATE_INPUT_REQUIRED,
        STATE.TASK_STATE_COMPLETED,
    }
    assert {(notification.task_id, notification.context_id) for notification in updates} == {
        (task.id, task.context_id)
    }
    for notification in notifications:
        assert notification.headers["x-a2a-notification-token"] == "my-token"
        assert notification.headers["authorization"] == "Bearer my-secret"
        assert notification.headers["content-type"] == "application/a2a+json"


@pytest.mark.conformance("A2A", "Push notifications", "a2a-sdk")
@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_push_notification_addresses_are_managed_notified_and_validated(
    daemon: Daemon, receiver: Receiver, binding: str
) -> None:
    path = f"/{binding}"
    async with agent(daemon, binding=binding) as client:
        task = await answered(client, said("one"))
        config = types.TaskPushNotificationConfig(
            task_id=task.id, id="mine", url=receiver.url(path), token="t"
        )
        push_config = await client.create_task_push_notification_config(config)
        assert (push_config.id, push_config.token) == ("mine", "")
        # The task has already ended, so the client learns that immediately.
        assert (
            json.loads(receiver.take(path).body)["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
        )
        config_page = await client.list_task_push_notification_configs(
            types.ListTaskPushNotificationConfigsRequest(task_id=task.id)
        )
        assert [entry.url for entry in config_page.configs] == [receiver.url(path)]
        config_reference = {"task_id": task.id, "id": "mine"}
        await client.get_task_push_notification_config(
            types.GetTaskPushNotificationConfigRequest(**config_reference)
        )
        await client.delete_task_push_notification_config(
            types.DeleteTaskPushNotificationConfigRequest(**config_reference)
        )
        with pytest.raises(TaskNotFoundError):
            await client.get_task_push_notification_config(
                types.GetTaskPushNotificationConfigRequest(**config_reference)
            )
        # Deleting a configuration twice does not reveal that it existed.
        await client.delete_task_push_notification_config(
            types.DeleteTaskPushNotificationConfigRequest(**config_reference)
        )
        with pytest.raises(TaskNotFoundError):
            await client.delete_task_push_notification_config(
                types.DeleteTaskPushNotificationConfigRequest(task_id="none", id="mine")
            )
        for url in ("http://10.0.0.1/x", "https://169.254.169.254/x", "file:///etc/passwd", "no url"):
            config.url = url
            with pytest.raises(InvalidParamsError):
                await client.create_task_push_notification_config(config)
        refused_request = said("two")
        refused_request.configuration.task_push_notification_config.url = "http://10.0.0.1/x"
        with pytest.raises(InvalidParamsError):
            await answered(client, refused_request)
        config.url = receiver.url(path)
        for number in range(10):
            config.id = str(number)
            await client.create_task_push_notification_config(config)
        config.id = "one more"
        with pytest.raises(UnsupportedOperationError, match="10"):
            await client.create_task_push_notification_config(config)
    async with httpx.AsyncClient(headers=bearer("three"), timeout=60) as http:
        assert (await http.get(f"{daemon.url}/v1/webhook_endpoints")).json()["data"] == []


async def test_tasks_of_another_key_are_not_found(daemon: Daemon) -> None:
    async with agent(daemon) as own_client:
        task = await answered(own_client, said("secret", context_id="shared words"))
    for key in ("one", "two"):
        async with agent(daemon, key=key) as client:
            for call in (
                client.get_task(types.GetTaskRequest(id=task.id)),
                client.cancel_task(types.CancelTaskRequest(id=task.id)),
                client.list_task_push_notification_configs(
                    types.ListTaskPushNotificationConfigsRequest(task_id=task.id)
                ),
                answered(client, said("more", task_id=task.id)),
            ):
                with pytest.raises(TaskNotFoundError):
                    await call
            assert not (await client.list_tasks(types.ListTasksRequest(context_id="shared words"))).tasks
    async with agent(daemon, key="boss") as admin:
        assert (await admin.get_task(types.GetTaskRequest(id=task.id))).history == task.history
    async with agent(daemon, "desk") as other_client:
        with pytest.raises(TaskNotFoundError):
            await other_client.get_task(types.GetTaskRequest(id=task.id))


PART = {"messageId": "1", "role": "ROLE_USER", "parts": [{"text": "x"}]}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"method": "GetTask"}, -32600, None),
        ({"jsonrpc": "2.0", "method": "GetTask"}, -32600, "id"),
        ({"jsonrpc": "2.0", "id": 1, "method": "message/send"}, -32601, "method"),
        ({"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": []}, -32602, "params"),
        ({"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {}}, -32602, "id"),
        ({"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {"pageSize": 101}}, -32602, "pageSize"),
        ({"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {"status": "DONE"}}, -32602, "status"),
        (
            {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {"pageToken": "?"}},
            -32602,
            "pageToken",
        ),
        (
            {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {"statusTimestampAfter": "now"}},
            -32602,
            "statusTimestampAfter",
        ),
        ({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {}}, -32602, "message"),
        (
            {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "SendMessage",
                "params": {"message": {**PART, "role": "user"}},
            },
            -32602,
            "message.role",
        ),
        (
            {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "SendMessage",
                "params": {"message": {**PART, "parts": [{}]}},
            },
            -32602,
            "message.parts[0]",
        ),
        (
            {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "SendMessage",
                "params": {"message": {**PART, "parts": [{"raw": "?"}]}},
            },
            -32602,
            "message.parts[0].raw",
        ),
        *(
            (
                {
                    "jsonrpc": "2.0",
                    "id": 1,
                    "method": "SendMessage",
                    "params": {"message": {**PART, "parts": [{name: None}]}},
                },
                -32602,
                f"message.parts[0].{name}",
            )
            for name in ("text", "raw", "url")
        ),
        (
            {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "SendStreamingMessage",
                "params": {"message": {**PART, "parts": [{"url": "https://example.com/a.pdf"}]}},
            },
            -32005,
            "message.parts[0]",
        ),
        ({"jsonrpc": "2.0", "id": 1, "method": "GetExtendedAgentCard"}, -32004, None),
        *(
            (
                {
                    "jsonrpc": "2.0",
                    "id": 1,
                    "method": "SendMessage",
                    "params": {"message": {**PART, **fields}},
                },
                -32602,
                "message",
            )
            for fields in (
                {"metadata": {"a": "b" * 20_000}},
                {"extensions": ["c" * 20_000]},
                {"parts": [{"text": "x", "metadata": {"a": "b" * 20_000}}]},
            )
        ),
        *(
            (
                {
                    "jsonrpc": "2.0",
                    "id": 1,
                    "method": "CreateTaskPushNotificationConfig",
                    "params": {"taskId": "t", "url": "https://example.com/x", **fields},
                },
                -32602,
                param,
            )
            for fields, param in (
                ({"id": "i" * 300}, "config.id"),
                ({"url": f"https://example.com/{'x' * 3_000}"}, "config.url"),
            )
        ),
    ],
)
def test_invalid_calls_get_protocol_errors_with_the_parameter(
    daemon: Daemon, body: Any, code: int, param: str | None
) -> None:
    answer = httpx.post(
        f"{daemon.url}/a2a/echo", json=body, headers={**bearer("one"), "A2A-Version": "1.0"}, timeout=60
    )
    assert answer.status_code == 200
    document = answer.json()
    assert document["jsonrpc"] == "2.0" and document["error"]["code"] == code, document
    [info, *_more] = document["error"]["data"]
    assert info["domain"] == "a2a-protocol.org" and info["metadata"].get("param") == param


@pytest.mark.parametrize("given", [None, True, {"a": 1}, ["a"], 1.5, "i" * 300, 10**30])
def test_an_invalid_call_id_is_refused_and_not_echoed(daemon: Daemon, given: Any) -> None:
    call = {"jsonrpc": "2.0", "id": given, "method": "SendStreamingMessage", "params": {"message": PART}}
    headers = {**bearer("one"), "A2A-Version": "1.0"}
    answer = httpx.post(f"{daemon.url}/a2a/echo", json=call, headers=headers, timeout=60)
    document = answer.json()
    assert (answer.status_code, document["id"], document["error"]["code"]) == (200, None, -32600)


async def test_a_list_has_the_artifacts_of_all_its_tasks_if_they_are_wanted(daemon: Daemon) -> None:
    headers = {**bearer("three"), "A2A-Version": "1.0"}
    async with agent(daemon, "clever") as client:
        request = said("hang on", context_id="artifacts")
        request.configuration.return_immediately = True
        started_task = await answered(client, request)
        async with httpx.AsyncClient(base_url=f"{daemon.url}/a2a/clever/", headers=headers) as http:
            for include_flag in ("true", "false"):
                query = {"contextId": "artifacts", "includeArtifacts": include_flag}
                [task] = (await http.get("tasks", params=query)).json()["tasks"]
                assert task.get("artifacts") == ([] if include_flag == "true" else None)
        await client.cancel_task(types.CancelTaskRequest(id=started_task.id))


def test_unsupported_versions_unknown_paths_and_malformed_bodies_are_refused(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url, headers=bearer("one"), timeout=60) as http:
        call = {"jsonrpc": "2.0", "id": 7, "method": "ListTasks"}
        for headers in ({}, {"A2A-Version": "0.3"}, {"A2A-Version": "2.0"}):
            response = http.post("/a2a/echo", json=call, headers=headers).json()
            assert (response["id"], response["error"]["code"]) == (7, -32009)
        assert http.post("/a2a/echo?A2A-Version=1.0", json=call).json()["result"]["tasks"] is not None
        version = {"A2A-Version": "1.0"}
        assert http.post("/a2a/echo", content=b"{", headers=version).json()["error"]["code"] == -32700
        assert http.post("/a2a/nobody", json=call, headers=version).status_code == 404
        assert http.get("/a2a/echo", headers=version).status_code == 405
        plain = http.get("/a2a/echo/tasks/nope", headers=version)
        assert (plain.status_code, plain.json()["error"]["details"][0]["reason"]) == (404, "TASK_NOT_FOUND")
        assert http.get("/a2a/echo/tasks?pageSize=many", headers=version).status_code == 400
        assert http.get("/a2a/echo/nothing", headers=version).status_code == 404
        wrong = http.put("/a2a/echo/tasks", headers=version)
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
    assert httpx.post(f"{daemon.url}/a2a/echo", json=call, timeout=60).status_code == 401


def test_every_method_of_the_protocol_is_served() -> None:
    service = types.DESCRIPTOR.services_by_name["A2AService"]
    assert {method.name for method in service.methods} == {*METHODS, *STREAMS}


def test_a_task_survives_a_killed_daemon(tmp_path: Path) -> None:
    (tmp_path / "a2a.yaml").write_text(
        json.dumps({"models": [{"name": "echo", "source": "fake://", "aliases": ["default"]}]}),
        encoding="utf-8",
    )
    version = {"A2A-Version": "1.0"}
    with daemons.running(tmp_path / "data", "--file", str(tmp_path / "a2a.yaml")) as first:
        request_body = {"message": PART, "configuration": {"returnImmediately": True}}
        task = httpx.post(
            f"{first.url}/a2a/echo/message:send", json=request_body, headers=version, timeout=60
        ).json()["task"]
        first.process.kill()
        first.process.wait(60)
    with daemons.running(tmp_path / "data", "--file", str(tmp_path / "a2a.yaml")) as second:
        call = {"jsonrpc": "2.0", "id": 1, "method": "SubscribeToTask", "params": {"id": task["id"]}}
        httpx.post(
            f"{second.url}/a2a/echo", json=call, headers=version, timeout=60
        )  # until the task has ended
        finished_task = httpx.get(
            f"{second.url}/a2a/echo/tasks/{task['id']}", headers=version, timeout=60
        ).json()
    assert finished_task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert finished_task["artifacts"][0]["parts"][0]["text"] == "x"


@pytest.mark.slow
def test_a_page_of_tasks_has_as_many_as_there_is_room_for(daemon: Daemon) -> None:
    headers = {**bearer("three"), "A2A-Version": "1.0"}
    with httpx.Client(base_url=f"{daemon.url}/a2a/echo", headers=headers, timeout=60) as http:
        for number in range(2):
            data = {"number": number, "long": "w" * (MAX_PAGE_CHARS // 3)}
            message = {**PART, "contextId": "long", "parts": [{"data": data}]}
            assert http.post("/message:send", json={"message": message}).is_success
        page_numbers, token = [], ""
        while not page_numbers or token:
            query = {"contextId": "long", "historyLength": 9, "pageToken": token}
            page = http.get("/tasks", params=query).json()
            assert page["totalSize"] == 2
            page_numbers.append([task["history"][0]["parts"][0]["data"]["number"] for task in page["tasks"]])
            token = page["nextPageToken"]
        assert page_numbers == [[1], [0]]
