"""``/v1/containers`` by the official client, and responses that run in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import OpenAI

from portico_server.features.sandbox.environment import Environment


@pytest.mark.conformance("OpenAI", "Containers", "openai")
def test_the_official_client_makes_lists_and_removes_containers_and_their_files(client: OpenAI) -> None:
    uploaded = client.files.create(file=("given.txt", b"given"), purpose="user_data")
    analysis_container = client.containers.create(
        name="analysis",
        file_ids=[uploaded.id],
        expires_after={"anchor": "last_active_at", "minutes": 90},
        memory_limit="1g",
        network_policy={"type": "disabled"},
    )
    assert (
        analysis_container.object,
        analysis_container.name,
        analysis_container.status,
        analysis_container.memory_limit,
    ) == (
        "container",
        "analysis",
        "active",
        "1g",
    )
    assert analysis_container.expires_after is not None and analysis_container.expires_after.minutes == 90
    assert client.containers.retrieve(analysis_container.id).model_dump() == analysis_container.model_dump()
    other_container = client.containers.create(name="other")
    assert other_container.expires_after is not None and other_container.expires_after.minutes == 20
    assert [container.id for container in client.containers.list(name="analysis")] == [analysis_container.id]
    assert {analysis_container.id, other_container.id} <= {
        container.id for container in client.containers.list(limit=1)
    }
    files = client.containers.files
    table_file = files.create(analysis_container.id, file=("table.csv", b"n\n1\n"))
    assert (table_file.path, table_file.bytes, table_file.source, table_file.container_id) == (
        "/work/table.csv",
        4,
        "user",
        analysis_container.id,
    )
    again = files.create(analysis_container.id, file=("table.csv", b"n\n1\n2\n"))
    copied = files.create(other_container.id, file_id=uploaded.id)
    assert files.content.retrieve(copied.id, container_id=other_container.id).read() == b"given"
    assert [file.path for file in files.list(analysis_container.id, order="asc", limit=1)] == [
        "/work/given.txt",
        "/work/table.csv",
    ]
    assert files.retrieve(again.id, container_id=analysis_container.id).bytes == 6
    for file_id in (table_file.id, copied.id):
        with pytest.raises(openai.NotFoundError):
            files.retrieve(file_id, container_id=analysis_container.id)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(table_file.id)  # the file was replaced
    files.delete(again.id, container_id=analysis_container.id)
    assert [file.path for file in files.list(analysis_container.id)] == ["/work/given.txt"]
    for container in (analysis_container, other_container):
        client.containers.delete(container.id)
        with pytest.raises(openai.NotFoundError):
            client.containers.retrieve(container.id)
    client.files.delete(uploaded.id)


def test_responses_run_in_a_container_and_cite_its_files(client: OpenAI, environment: Environment) -> None:
    container = client.containers.create(name="work")
    client.containers.files.create(container.id, file=("given.txt", b"given"))
    tools: Any = [{"type": "code_interpreter", "container": container.id}]
    answer = client.responses.create(model="clever", input="copy it", tools=tools)
    ran, message = answer.output
    assert ran.type == "code_interpreter_call" and ran.container_id == container.id
    assert message.type == "message"
    [note] = [note for part in message.content if part.type == "output_text" for note in part.annotations]
    assert note.type == "container_file_citation" and note.filename == "copied.txt"
    content = client.containers.files.content.retrieve(note.file_id, container_id=container.id)
    assert content.read() == b"GIVEN"
    assert client.files.content(note.file_id).read() == b"GIVEN"
    shell: Any = {
        "type": "shell",
        "environment": {"type": "container_reference", "container_id": container.id},
    }
    answer = client.responses.create(model="clever", input="read it", tools=[shell])
    output = answer.output[1]
    assert output.type == "shell_call_output" and output.output[0].stdout == "GIVEN"
    assert [file.path for file in client.containers.files.list(container.id)] == ["/work/copied.txt"]
    client.containers.delete(container.id)
    with pytest.raises(openai.NotFoundError) as error_info:
        client.responses.create(model="clever", input="read it", tools=[shell])
    assert error_info.value.param == "tools[0].environment.container_id"
    with pytest.raises(openai.NotFoundError) as error_info:
        client.responses.create(model="clever", input="copy it", tools=tools)
    assert error_info.value.param == "tools[0].container"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "a", "expires_after": {"anchor": "created_at", "minutes": 5}}, "expires_after.anchor"),
        ({"name": "a", "expires_after": {"anchor": "last_active_at", "minutes": 0}}, "expires_after.minutes"),
        ({"name": "a", "memory_limit": "2g"}, "memory_limit"),
        ({"name": "a", "memory_limit": "64g"}, "memory_limit"),
        ({"name": "a", "file_ids": ["file-none"]}, "file_ids[0]"),
        ({"name": "a", "network_policy": {"type": "allowlist"}}, "network_policy.type"),
        ({"name": "a", "skills": [{"type": "skill_reference", "skill_id": "none"}]}, "skills[0]"),
    ],
)
def test_an_invalid_container_request_is_refused_with_the_parameter(
    client: OpenAI, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.APIStatusError) as error_info:
        client.containers.create(**body)
    assert error_info.value.status_code in (400, 404)
    assert error_info.value.param == param


def test_references_to_too_much_data_are_refused(client: OpenAI) -> None:
    """A request may not refer to more than the limit allows, however short the reference is."""
    large = client.files.create(file=("large.png", bytes(17 * 2**20)), purpose="user_data").id
    container = client.containers.create(name="small")
    auto: Any = {"type": "auto", "file_ids": [large]}
    item: Any = {"type": "message", "role": "user", "id": "msg_1", "content": "a" * 400_000}
    picture: Any = {"type": "input_image", "file_id": large, "detail": "auto"}
    code, shell = ({"type": kind} for kind in ("code_interpreter", "shell"))

    def ask(given: Any, *tools: Any) -> Any:
        return client.responses.create(model="echo", input=given, tools=tools or openai.omit, store=False)

    cases: dict[str, tuple[Callable[[], Any], int]] = {
        "file_ids[0]": (lambda: client.containers.create(name="a", file_ids=[large]), 413),
        "file_id": (lambda: client.containers.files.create(container.id, file_id=large), 413),
        "tools[0].container.file_ids[0]": (lambda: ask("a", {**code, "container": auto}), 413),
        "tools[0].environment.file_ids[0]": (
            lambda: ask("a", {**shell, "environment": {**auto, "type": "container_auto"}}),
            413,
        ),
        "input": (lambda: ask([item, *[{"type": "item_reference", "id": "msg_1"}] * 100]), 400),
        "input ": (lambda: ask([{"role": "user", "content": [picture, picture]}]), 400),
    }
    for param, (call, status) in cases.items():
        with pytest.raises(openai.APIStatusError) as error:
            call()
        assert (error.value.status_code, error.value.param) == (status, param.strip()), error.value.message
    client.containers.delete(container.id)
    client.files.delete(large)


def test_a_key_without_the_tools_has_no_containers_and_bad_files_are_refused(
    client: OpenAI, as_key: Callable[[str], OpenAI]
) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        as_key("one").containers.create(name="mine")
    container = client.containers.create(name="bad")
    for arguments, param in (({"file_id": "file-none"}, "file_id"), ({}, "file_id")):
        with pytest.raises(openai.APIStatusError) as error_info:
            client.containers.files.create(container.id, **arguments)
        assert error_info.value.status_code in (400, 404) and error_info.value.param == param
    client.containers.delete(container.id)
