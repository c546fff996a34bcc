"""``image_generation``: images that the `draw` tool makes, as items of a response."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from portico_server.core.errors import PorticoError, Unavailable
from portico_server.core.request import CalledTool, ToolCall, ToolResult
from portico_server.features.agents.tools import cut
from portico_server.features.responses.items import MODEL_OUTPUT
from portico_server.features.responses.request import ImageGenerationTool
from portico_server.features.responses.tool_context import OfferedTool, ToolContext

KIND: Final = "image_generation"
MAX_PICTURE_BYTES: Final = 64 * 2**20
"""Maximum size of an image that a model has made, in bytes."""

_PROMPT: Final = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "description": "What the picture shows, in detail."}},
    "required": ["prompt"],
    "additionalProperties": False,
}


async def image_call(bench: ToolContext, tool: ImageGenerationTool, at: str) -> None:
    """Offer image generation to the model.

    Clients declare the tool whether or not they need it. If no model can draw for this caller, the tool is not
    offered, unless the model must call it. Raises `NotFound` if the named model does not exist.
    """
    caller, registry = bench.context.caller, bench.around.registry
    try:
        card = (await registry.resolve("tool/draw", caller)).card
        if not any("image" in entry.capabilities for entry in await registry.cards(caller, "model")):
            raise Unavailable("No image model is available to this key.", code="no_such_model", param=at)
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
    done_event = machine.finish(
        index,
        status="failed" if result.is_error else "completed",
        **fields,
        **{MODEL_OUTPUT: cut(result.text)},
    )
    await bench.emit([*events, done_event])
