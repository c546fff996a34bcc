"""``shell``, ``apply_patch`` and ``local_shell`` of a response, run in a container here or by the client."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.server.api.openai.following import followed

from portico_server.features.sandbox.environment import Environment

TEXT = "---\nname: greeting\ndescription: Greets.\n---\n"
HOSTED: Any = {"type": "shell", "environment": {"type": "container_auto"}}
PATCH: Any = {"type": "apply_patch"}


def archive() -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("greeting/SKILL.md", TEXT)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.conformance("OpenAI", "Responses: shell", "openai")
def test_commands_run_in_a_container_with_its_files_and_skills(
    client: OpenAI, environment: Environment
) -> None:
    skill = client.skills.create(files=[("greeting/SKILL.md", TEXT.encode())])
    file = client.files.create(file=("given.txt", b"given"), purpose="user_data")
    container = {
        "type": "container_auto",
        "file_ids": [file.id],
        "skills": [{"type": "skill_reference", "skill_id": skill.id, "version": "latest"}],
    }
    tool: Any = {"type": "shell", "environment": container}
    events, final = followed(
        client.responses.create(
            model="clever", input="list it", tools=[tool], tool_choice={"type": "shell"}, stream=True
        )
    )
    call, output, message = final.output
    assert call.type == "shell_call" and call.status == "completed"
    assert call.environment is not None and call.environment.type == "container_reference"
    assert (len(call.action.commands), call.action.max_output_length) == (3, 20)
    assert output.type == "shell_call_output" and output.call_id == call.call_id
    first, second, third = output.output
    assert (first.stdout, first.stderr) == ("one\n", "two\n")
    assert first.outcome.type == "exit" and first.outcome.exit_code == 3
    assert second.stdout == TEXT[:20], "as much as was asked for"
    assert len(third.stdout) == 20
    assert message.type == "message"
    [note] = [note for part in message.content if part.type == "output_text" for note in part.annotations]
    assert note.type == "container_file_citation" and note.filename == "made.txt"
    assert note.container_id == call.environment.container_id
    assert client.files.content(note.file_id).read() == b"made\n"
    kinds = [event.type.removeprefix("response.") for event in events]
    for word in ("added", "delta", "done"):
        assert kinds.count(f"shell_call_command.{word}") == 3
    assert kinds.count("shell_call_output_content.done") == 3
    commands = [e.command for e in events if e.type == "response.shell_call_command.done"]
    assert commands == call.action.commands
    inline = {"type": "inline", "name": "greeting", "description": "Greets."}
    source = {"type": "base64", "media_type": "application/zip", "data": archive()}
    again = client.responses.create(
        model="clever",
        input="sleep",
        tools=[
            {
                "type": "shell",
                "environment": {"type": "container_auto", "skills": [{**inline, "source": source}]},
            }
        ],
    )
    slept = again.output[1]
    assert slept.type == "shell_call_output"
    assert [result.outcome.type for result in slept.output] == ["timeout", "timeout"]
    client.skills.delete(skill.id)


@pytest.mark.conformance("OpenAI", "Responses: apply_patch", "openai")
def test_patches_apply_in_the_container_of_the_shell(client: OpenAI, environment: Environment) -> None:
    answer = client.responses.create(model="clever", input="change it", tools=[HOSTED, PATCH])
    done = [item for item in answer.output if item.type == "apply_patch_call_output"]
    assert [(item.status, (item.output or "").splitlines()[0]) for item in done] == [
        ("completed", "Created a/b.txt."),
        ("completed", "Updated a/b.txt."),
        ("failed", "The patch does not apply: the file 'no' does not exist in the working folder."),
        ("failed", done[3].output),
    ]
    assert "not a valid path of a file in the working folder" in str(done[3].output)
    [read] = [item for item in answer.output if item.type == "shell_call_output"]
    assert read.output[0].stdout == "one\nzwei\n"
    input_items = client.responses.input_items.list(answer.id)
    assert [item.type for item in input_items] == ["message"]


def test_without_a_container_shell_and_patch_calls_are_returned_to_the_client(client: OpenAI) -> None:
    local: Any = {
        "type": "shell",
        "environment": {"type": "local", "skills": [{"name": "a", "description": "Does a.", "path": "/s/a"}]},
    }
    response = client.responses.create(model="clever", input="here I list", tools=[local, PATCH])
    [call] = response.output
    assert call.type == "shell_call" and call.action.commands == ["ls"] and call.action.timeout_ms == 1_000
    assert call.environment is not None and call.environment.type == "local"
    with pytest.raises(openai.BadRequestError, match="No tool output found for shell call"):
        client.responses.create(model="clever", input="x", previous_response_id=response.id)
    outputs: Any = [
        {
            "type": "shell_call_output",
            "call_id": call.call_id,
            "output": [{"stdout": "a.txt", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
        }
    ]
    answer = client.responses.create(
        model="clever", input=outputs, previous_response_id=response.id, tools=[local, PATCH]
    )
    assert answer.output_text == "It is done."
    response = client.responses.create(model="clever", input="here I patch", tools=[{"type": "shell"}, PATCH])
    [patch] = response.output
    assert patch.type == "apply_patch_call" and patch.operation.type == "delete_file"
    done: Any = [
        {"type": "apply_patch_call_output", "call_id": patch.call_id, "status": "failed", "output": "no"}
    ]
    answer = client.responses.create(model="clever", input=done, previous_response_id=response.id)
    assert answer.output_text == "It is done."
    response = client.responses.create(model="clever", input="here I run", tools=[{"type": "local_shell"}])
    [run] = response.output
    assert run.type == "local_shell_call"
    assert (run.action.command, run.action.working_directory, run.action.env) == (["ls", "-l"], "/tmp", {})
    ran: Any = [{"type": "local_shell_call_output", "id": run.call_id, "output": "{}"}]
    answer = client.responses.create(model="clever", input=ran, previous_response_id=response.id)
    assert answer.output_text == "It is done."
    history: Any = [{"role": "user", "content": "here I end"}, patch.model_dump(), *done]
    assert client.responses.create(model="clever", input=history).output_text == "It is done."


SKILL = {"type": "skill_reference", "skill_id": "skill_none"}
INLINE = {
    "type": "inline",
    "name": "a",
    "description": "A.",
    "source": {"type": "base64", "media_type": "application/zip", "data": "UEs="},
}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "shell", "environment": {"type": "vm"}}]}, "tools[0].environment.type"),
        (
            {
                "tools": [
                    {"type": "shell", "environment": {"type": "container_reference", "container_id": "a b"}}
                ]
            },
            "tools[0].environment.container_id",
        ),
        (
            {
                "tools": [
                    {
                        "type": "shell",
                        "environment": {
                            "type": "container_auto",
                            "network_policy": {"type": "allowlist", "allowed_domains": ["a.de"]},
                        },
                    }
                ]
            },
            "tools[0].environment.network_policy",
        ),
        (
            {"tools": [{"type": "shell", "environment": {"type": "container_auto", "skills": [SKILL]}}]},
            "tools[0].environment.skills[0].skill_id",
        ),
        (
            {"tools": [{"type": "shell", "environment": {"type": "container_auto", "skills": [INLINE]}}]},
            "tools[0].environment.skills[0].source.data",
        ),
        (
            {"tools": [{"type": "shell", "environment": {"type": "local", "skills": [SKILL]}}]},
            "tools[0].environment.skills[0].name",
        ),
        ({"tools": [PATCH], "tool_choice": {"type": "shell"}}, "tool_choice"),
        ({"input": [{"type": "shell_call_output", "call_id": "c", "output": "x"}]}, "input[0].output"),
        ({"input": [{"type": "shell_call", "call_id": "c", "action": {}}]}, "input[0].action.commands"),
        (
            {"input": [{"type": "apply_patch_call", "call_id": "c", "operation": {"type": "x"}}]},
            "input[0].operation.type",
        ),
        ({"input": [{"type": "apply_patch_call_output", "call_id": "c"}]}, "input[0].status"),
        ({"input": [{"type": "shell_call_output", "call_id": "c", "output": []}]}, "input"),
    ],
)
def test_an_invalid_shell_or_patch_request_is_refused_with_the_parameter(
    client: OpenAI, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.APIStatusError) as error:
        client.responses.create(**{"model": "clever", "input": "x", **body})
    assert error.value.status_code in (400, 404)
    assert error.value.param == param


def test_a_key_without_the_tool_cannot_use_the_shell(as_key: Callable[[str], OpenAI]) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        as_key("one").responses.create(model="clever", input="x", tools=[HOSTED])
