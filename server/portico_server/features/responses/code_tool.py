"""``code_interpreter``: Python in a notebook that all code items of a response share."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from portico.schemas.artifacts import Artifact
from portico_server.core.errors import NotFound, PorticoError
from portico_server.core.request import CalledTool, ToolCall, ToolResult
from portico_server.features.agents.tools import cut
from portico_server.features.responses.items import MODEL_OUTPUT, Item
from portico_server.features.responses.request import CodeInterpreterTool
from portico_server.features.responses.tool_context import OfferedTool, Place, ToolContext

MAX_FILES_BYTES: Final = 16 * 2**20
"""Maximum total size of the uploaded files that a request passes to a tool, in bytes."""

_CODE: Final = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "Python source."}},
    "required": ["code"],
    "additionalProperties": False,
}


async def code_call(bench: ToolContext, tool: CodeInterpreterTool, at: str) -> None:
    """Offer the code interpreter to the model. Raises `NotFound`, `Forbidden`."""
    card = (await bench.around.registry.resolve("tool/code_interpreter", bench.context.caller)).card
    place = await place_of(bench, tool.container, f"{at}.container", fresh=bool(tool.files))
    files = await find_uploads(bench, tool.files, f"{at}.container.file_ids")

    async def use(call: CalledTool, arguments: Mapping[str, Any]) -> None:
        # Some models send plain code instead of a JSON object.
        code = arguments.get("code")
        await _run(bench, place, files, code if isinstance(code, str) else call.arguments)
        files.clear()  # the container now contains the files

    bench.offers["code_interpreter"] = OfferedTool(
        "code_interpreter", card.description, _CODE, use, "code_interpreter", repeats=False
    )


async def place_of(bench: ToolContext, container_id: str, at: str, *, fresh: bool) -> Place:
    """Return a function that returns the container to use: the container that the tool names, else the last container
    of the conversation if it still exists, else a new container.

    Raises `NotFound` if the named container does not exist.
    """
    containers, caller = bench.around.containers, bench.context.caller
    if container_id:
        try:
            await containers.skills(container_id, caller)
        except NotFound as error:
            raise NotFound(error.message, code=error.code, param=at) from error
    elif not fresh and not bench.container:
        last = next(filter(None, map(_container_of, reversed((*bench.before, *bench.machine.output)))), "")
        with suppress(NotFound):
            if last:
                await containers.skills(last, caller)
                bench.container = last

    async def place() -> str:
        if not container_id and not bench.container:
            bench.container = await containers.automatic(caller)
        return container_id or bench.container

    return place


def _container_of(item: Item) -> str:
    place = item if item["type"] == "code_interpreter_call" else item.get("environment") or {}
    return str(place.get("container_id") or "")


async def _run(bench: ToolContext, place: Place, files: Sequence[Mapping[str, str]], code: str) -> None:
    machine = bench.machine
    container = await place()
    item = {"id": machine.mint("ci_"), "type": "code_interpreter_call", "status": "in_progress"}
    index, events = machine.add({**item, "code": "", "container_id": container, "outputs": None})
    machine.change(index, code=code)
    events += [
        machine.tell(index, "response.code_interpreter_call.in_progress"),
        machine.tell(index, "response.code_interpreter_call_code.delta", delta=code),
        machine.tell(index, "response.code_interpreter_call_code.done", code=code),
        machine.tell(index, "response.code_interpreter_call.interpreting"),
    ]
    await bench.emit(events)
    arguments: dict[str, Any] = {"code": code, "session": container}
    if files:
        arguments["files"] = list(files)
    try:
        key = f"{bench.context.run}:{item['id']}"
        result = await bench.context.call("tool/code_interpreter", ToolCall(arguments, key=key))
        assert isinstance(result, ToolResult)
    except PorticoError as error:
        result = ToolResult(f"'code_interpreter' failed: {error.message}", is_error=True)
    bench.made += [(artifact, container) for artifact in result.artifacts]
    outputs = [{"type": "logs", "logs": _logs(result)}]
    outputs += [
        {"type": "image", "url": f"/v1/files/{artifact.id}/content"}
        for artifact in result.artifacts
        if artifact.media_type.startswith("image/")
    ]
    # Code that raised an error still ran. A failed call without a structured result did not run.
    status = "failed" if result.is_error and result.structured is None else "completed"
    completed_event = machine.tell(index, "response.code_interpreter_call.completed")
    done_event = machine.finish(index, status=status, outputs=outputs, **{MODEL_OUTPUT: cut(result.text)})
    await bench.emit([completed_event, done_event])


async def find_uploads(bench: ToolContext, file_ids: Sequence[str], at: str) -> list[dict[str, str]]:
    """Return uploaded files in the form that code-running tools accept. Raises `NotFound`, `TooLarge`."""
    files = []
    room = MAX_FILES_BYTES
    for number, file_id in enumerate(file_ids):
        name, data = await bench.around.uploads.read(
            file_id, bench.context.caller, limit=room, param=f"{at}[{number}]"
        )
        room -= len(data)
        files.append({"name": name.rpartition("/")[2], "base64": base64.b64encode(data).decode()})
    return files


def made_notes(text: str, artifacts: Sequence[tuple[Artifact, str]]) -> list[dict[str, Any]]:
    """Return the files that code created as annotations of a text: at the file's name, or at the end if the text does
    not name the file.
    """
    notes = []
    for artifact, container in artifacts:
        start = text.find(artifact.name)
        end = len(text) if start < 0 else start + len(artifact.name)
        notes.append(
            {
                "type": "container_file_citation",
                "container_id": container,
                "file_id": artifact.id,
                "filename": artifact.name,
                "start_index": len(text) if start < 0 else start,
                "end_index": end,
            }
        )
    return notes


def _logs(result: ToolResult) -> str:
    outcome = result.structured
    if outcome is None:
        return result.text
    return "\n".join(
        text for text in (outcome["output"].rstrip("\n"), outcome["value"], outcome["error"]) if text
    )
