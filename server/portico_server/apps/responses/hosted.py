"""The tools of a response that run here, under one roof."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from portico.wire import Cited, Passage, ToolCalled, ToolReturned
from portico_server.apps.agent.tools import arguments_of, cut
from portico_server.apps.responses import code_tool, mcp_tool, shell_tool, tool_search
from portico_server.apps.responses.items import MODEL_OUTPUT
from portico_server.apps.responses.request import (
    ApplyPatchTool,
    CodeInterpreterTool,
    FileSearchTool,
    ImageGenerationTool,
    LocalShellTool,
    McpTool,
    ShellTool,
)
from portico_server.apps.responses.tool_context import OfferedTool, ToolContext
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError, Unavailable, nearest
from portico_server.core.request import CalledTool, Filter, Found, ToolCall, ToolResult
from portico_server.core.tool_search import QUERY_ARGUMENTS

# ``image_generation``: pictures by the tool `draw`, as items of a response.


KIND: Final = "image_generation"

MAX_PICTURE_BYTES: Final = 64 * 2**20
"""Bytes of a picture that a model has made."""

_PROMPT: Final = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "description": "What the picture shows, in detail."}},
    "required": ["prompt"],
    "additionalProperties": False,
}


async def image_call(bench: ToolContext, tool: ImageGenerationTool, at: str) -> None:
    """Offer it. Clients declare it whether or not they need it: where nothing draws for this caller, the model does
    not hear of it, unless it must be called. Raises `NotFound` for a model that is not there.
    """
    caller, registry = bench.context.caller, bench.around.registry
    try:
        card = (await registry.resolve("tool/draw", caller)).card
        if not any("image" in one.capabilities for one in await registry.cards(caller, "model")):
            raise Unavailable("No model here draws pictures.", code="no_such_model", param=at)
        if tool.model:
            await registry.resolve(tool.model, caller)
    except PorticoError:
        if bench.ask.choice.kind == KIND or tool.model:
            raise
        return

    async def use(call: CalledTool, arguments: Mapping[str, Any]) -> None:
        prompt = arguments.get("prompt")
        await _draw(bench, tool, prompt if isinstance(prompt, str) and prompt else call.arguments)

    bench.offers[KIND] = OfferedTool(KIND, card.description, _PROMPT, use, KIND)


async def _draw(bench: ToolContext, tool: ImageGenerationTool, prompt: str) -> None:
    machine = bench.machine
    item = {
        "id": machine.mint("ig_"),
        "type": "image_generation_call",
        "status": "in_progress",
        "result": None,
    }
    index, events = machine.add(item)
    events += [
        machine.tell(index, "response.image_generation_call.in_progress"),
        machine.tell(index, "response.image_generation_call.generating"),
    ]
    await bench.emit(events)
    arguments = {"prompt": prompt, **tool.options, **({"model": tool.model} if tool.model else {})}
    fields: dict[str, Any] = {"revised_prompt": prompt, "action": "generate"}
    fields |= {name: tool.options[name] for name in ("quality", "background") if name in tool.options}
    try:
        key = f"{bench.context.run}:{item['id']}"
        result = await bench.context.call("tool/draw", ToolCall(arguments, key=key))
        assert isinstance(result, ToolResult)
        if result.artifacts and result.structured is not None:
            [picture] = result.structured["pictures"]
            _name, data = await bench.around.uploads.read(
                picture["id"], bench.context.caller, limit=MAX_PICTURE_BYTES
            )
            fields["result"] = base64.b64encode(data).decode()
            fields["revised_prompt"] = picture.get("revised_prompt", prompt)
            fields["size"] = f"{picture['width']}x{picture['height']}"
            fields["output_format"] = picture["media_type"].rpartition("/")[2]
    except PorticoError as error:
        result = ToolResult(f"The picture could not be drawn: {error.message}", is_error=True)
    events = [] if result.is_error else [machine.tell(index, "response.image_generation_call.completed")]
    done = machine.done(
        index,
        status="failed" if result.is_error else "completed",
        **fields,
        **{MODEL_OUTPUT: cut(result.text)},
    )
    await bench.emit([*events, done])


# ``file_search``: passages of stores, numbered, for a model to point at.


CITE: Final = "Point at the passages that you use by their numbers in brackets, such as [1]."


async def search_call(bench: ToolContext, tool: FileSearchTool, at: str) -> None:
    """Offer a search in the stores that a request names. Raises `NotFound`, `Forbidden`, `InvalidRequest`."""
    filters = None if tool.filters is None else bench.around.filters(tool.filters, f"{at}.filters")
    about = []
    for number, store in enumerate(tool.stores):
        try:
            card = (await bench.around.registry.resolve(f"store/{store}", bench.context.caller)).card
        except NotFound as error:
            raise NotFound(
                error.message, code="vector_store_not_found", param=f"{at}.vector_store_ids[{number}]"
            ) from error
        about.append(f"'{card.name}' ({card.description})" if card.description else f"'{card.name}'")

    async def use(_call: CalledTool, arguments: Mapping[str, Any]) -> None:
        await _search(bench, tool, filters, str(arguments.get("query") or "").strip())

    described = f"Search in the documents of {', '.join(about)}. {CITE}"
    bench.offers["file_search"] = OfferedTool("file_search", described, QUERY_ARGUMENTS, use, "file_search")


async def _search(bench: ToolContext, tool: FileSearchTool, filters: Filter | None, query: str) -> None:
    machine = bench.machine
    item = {"id": machine.mint("fs_"), "type": "file_search_call", "status": "in_progress"}
    index, events = machine.add({**item, "queries": [query] if query else [], "results": None})
    events += [
        machine.tell(index, "response.file_search_call.in_progress"),
        machine.tell(index, "response.file_search_call.searching"),
    ]
    await bench.emit(events)
    try:
        if not query:
            raise InvalidRequest("It needs 'query', a text.")
        asked = " ".join(query.casefold().split())
        bench.repeated = asked in bench.searched
        found = bench.searched[asked] if bench.repeated else await _found(bench, tool, filters, query)
        bench.searched[asked] = found
    except PorticoError as error:
        done = machine.done(index, status="failed", **{MODEL_OUTPUT: f"The search failed: {error.message}"})
        await bench.emit([done])
        return
    if not bench.repeated:
        bench.passages += found
        await bench.context.emit(Cited(tuple(bench.passages)))
    results = [
        {
            "file_id": passage.file_id,
            "filename": passage.filename,
            "score": passage.score,
            "text": passage.text,
            "attributes": dict(passage.attributes),
        }
        for passage in found
    ]
    text = "\n\n".join(f"[{p.rank}] {p.filename} {p.place.label()}\n{p.text}" for p in found)
    text = cut(f"{text}\n\n{CITE}") if found else "Nothing was found."
    if bench.repeated:
        text = f"{text}\n\nThis was searched for before. Answer now."
    completed = machine.tell(index, "response.file_search_call.completed")
    done = machine.done(index, status="completed", results=results, **{MODEL_OUTPUT: text})
    await bench.emit([completed, done])


async def _found(
    bench: ToolContext, tool: FileSearchTool, filters: Filter | None, query: str
) -> Sequence[Passage]:
    """The best passages of all stores, numbered on from those that were found before."""
    found: list[Passage] = []
    for store in tool.stores:
        result = await bench.context.call(f"store/{store}", tool.search(query, filters))
        assert isinstance(result, Found)
        found += result.passages
    found.sort(key=lambda passage: -passage.score)
    first = len(bench.passages) + 1
    return [replace(passage, rank=rank) for rank, passage in enumerate(found[: tool.most], first)]


async def grasp(bench: ToolContext) -> None:
    """Find all that the request names. Raises `NotFound` or `Forbidden` for what the caller may not use."""
    for number, tool in enumerate(bench.ask.tools):
        at = f"tools[{number}]"
        match tool:
            case FileSearchTool():
                await search_call(bench, tool, at)
            case CodeInterpreterTool():
                await code_tool.code_call(bench, tool, at)
            case ImageGenerationTool():
                await image_call(bench, tool, at)
            case McpTool():
                await mcp_tool.mcp_call(bench, tool, at)
            case ShellTool():
                await shell_tool.shell_call(bench, tool, at)
            case LocalShellTool():
                shell_tool.local_shell_call(bench)
    if any(
        isinstance(tool, ApplyPatchTool) for tool in bench.ask.tools
    ):  # once it is known where the shell is
        await shell_tool.patch_call(bench)
    await tool_search.search_call(bench)
    for function in bench.functions:
        if function.spoken in bench.offers:
            raise InvalidRequest(
                f"'tools' lists a function '{function.spoken}', which is also the name of a tool of this daemon that "
                "the request asks for. Name your function otherwise.",
                param="tools",
            )


async def use(bench: ToolContext, call: CalledTool) -> str | None:
    """Do what the model asks for; what goes wrong is told to it. A sentence if there is no such tool."""
    offer = bench.offers.get(call.name)
    if offer is None:
        known = ", ".join(name for name in bench.offers if name not in bench.hidden) or "none"
        return f"There is no tool '{call.name}'.{nearest(call.name, bench.offers)} Tools are: {known}."
    await bench.context.emit(ToolCalled(call.id, call.name, call.arguments))
    await offer.use(call, _arguments(call.arguments))
    item = bench.machine.output[-1]
    failed = item.get("status") == "failed"
    await bench.context.emit(ToolReturned(call.id, call.name, str(item.get(MODEL_OUTPUT, "")), failed))
    return None


def _arguments(text: str) -> Mapping[str, Any]:
    """As far as they are an object: a tool says itself what it misses."""
    try:
        return arguments_of(text)
    except InvalidRequest:
        return {}
