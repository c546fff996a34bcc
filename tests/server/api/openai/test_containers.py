"""``/v1/containers`` by the official client, and responses that run in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import OpenAI

from portico_server.tools.sandbox.environment import Environment


@pytest.mark.conformance("OpenAI", "Containers", "openai")
def test_the_official_client_makes_lists_and_removes_containers_and_their_files(client: OpenAI) -> None:
    uploaded = client.files.create(file=("given.txt", b"given"), purpose="user_data")
    made = client.containers.create(
        name="analysis",
        file_ids=[uploaded.id],
        expires_after={"anchor": "last_active_at", "minutes": 90},
        memory_limit="1g",
        network_policy={"type": "disabled"},
    )
    assert (made.object, made.name, made.status, made.memory_limit) == (
        "container",
        "analysis",
        "active",
        "1g",
    )
    assert made.expires_after is not None and made.expires_after.minutes == 90
    assert client.containers.retrieve(made.id).model_dump() == made.model_dump()
    other = client.containers.create(name="other")
    assert other.expires_after is not None and other.expires_after.minutes == 20
    assert [one.id for one in client.containers.list(name="analysis")] == [made.id]
    assert {made.id, other.id} <= {one.id for one in client.containers.list(limit=1)}
    files = client.containers.files
    sent = files.create(made.id, file=("table.csv", b"n\n1\n"))
    assert (sent.path, sent.bytes, sent.source, sent.container_id) == ("/work/table.csv", 4, "user", made.id)
    again = files.create(made.id, file=("table.csv", b"n\n1\n2\n"))
    copied = files.create(other.id, file_id=uploaded.id)
    assert files.content.retrieve(copied.id, container_id=other.id).read() == b"given"
    assert [file.path for file in files.list(made.id, order="asc", limit=1)] == [
        "/work/given.txt",
        "/work/table.csv",
    ]
    assert files.retrieve(again.id, container_id=made.id).bytes == 6
    for gone in (sent.id, copied.id):
        with pytest.raises(openai.NotFoundError):
            files.retrieve(gone, container_id=made.id)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(sent.id)  # the file was replaced
    files.delete(again.id, container_id=made.id)
    assert [file.path for file in files.list(made.id)] == ["/work/given.txt"]
    for one in (made, other):
        client.containers.delete(one.id)
        with pytest.raises(openai.NotFoundError):
            client.containers.retrieve(one.id)
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
    found = client.containers.files.content.retrieve(note.file_id, container_id=container.id)
    assert found.read() == b"GIVEN"
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
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="clever", input="read it", tools=[shell])
    assert refused.value.param == "tools[0].environment.container_id"
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="clever", input="copy it", tools=tools)
    assert refused.value.param == "tools[0].container"


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
    with pytest.raises(openai.APIStatusError) as refused:
        client.containers.create(**body)
    assert refused.value.status_code in (400, 404)
    assert refused.value.param == param


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

    refused: dict[str, tuple[Callable[[], Any], int]] = {
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
    for param, (call, status) in refused.items():
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
    for given, param in (({"file_id": "file-none"}, "file_id"), ({}, "file_id")):
        with pytest.raises(openai.APIStatusError) as refused:
            client.containers.files.create(container.id, **given)
        assert refused.value.status_code in (400, 404) and refused.value.param == param
    client.containers.delete(container.id)
