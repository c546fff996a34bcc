"""A run's result, converted to the result of an MCP tool."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import mcp_types as types

from portico.schemas.artifacts import Artifact
from portico_server.core.app_functions import as_object
from portico_server.core.citation_marks import cited_numbers
from portico_server.core.passage import origin, to_json, to_text
from portico_server.core.principal import Principal
from portico_server.core.request import AppOutput, ChatReply, Result, SearchResult, ToolResult
from portico_server.features.mcp.library import Library
from portico_server.runs.artifacts import link_of

PICTURES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""Image types that assistants show."""

SOUNDS: Final = ("audio/wav", "audio/x-wav", "audio/mpeg", "audio/ogg", "audio/flac", "audio/mp4")
"""Audio types that assistants play."""

MAX_INLINE_BYTES: Final = 2 * 1024 * 1024
"""Maximum size, in bytes, of an image or sound included in a result. Larger files become links."""


async def result_of(result: Result, run: str, caller: Principal, library: Library) -> types.CallToolResult:
    """Return the result of a run with its small images and sounds, and with links to its other files."""
    answer = _plain(result)
    for item in await _artifacts(result, run, caller, library):
        answer.content.append(await _to_content(item, caller, library))
    return answer


async def to_stored(result: Result, run: str, caller: Principal, library: Library) -> dict[str, Any]:
    """Return the result of a run as JSON to store. Files that the run made are stored as references."""
    answer = _plain(result).model_dump(by_alias=True, mode="json", exclude_none=True)
    return {
        "answer": answer,
        "artifacts": [asdict(item) for item in await _artifacts(result, run, caller, library)],
    }


async def restored(document: Mapping[str, Any], caller: Principal, library: Library) -> types.CallToolResult:
    """Return the tool result from a document of `to_stored`, as `result_of` returned it."""
    answer = types.CallToolResult.model_validate(document["answer"])
    for item in document["artifacts"]:
        answer.content.append(
            await _to_content(Artifact(**{"link": link_of(item["id"]), **item}), caller, library)
        )
    return answer


async def _artifacts(result: Result, run: str, caller: Principal, library: Library) -> Sequence[Artifact]:
    """Return the files made by a tool, or by all tools of an app's run."""
    if isinstance(result, ToolResult):
        return result.artifacts
    return await library.made_in(caller, run) if isinstance(result, AppOutput | ChatReply) else ()


def failure(sentence: str) -> types.CallToolResult:
    """Return a failed call as a result that the model can read."""
    return types.CallToolResult(content=[types.TextContent(type="text", text=sentence)], is_error=True)


def _plain(result: Result) -> types.CallToolResult:
    match result:
        case ChatReply(content=answer, citations=passages, claims=claims):
            sources = "".join(f"\n[{passage.rank}] {origin(passage)}" for passage in passages)
            text = f"{answer}\n\nSources:{sources}" if passages else answer
            without = [
                answer[claim.start : claim.end] for claim in claims if not (claim.supported or claim.removed)
            ]
            if without:
                text += "\n\nNot supported by these sources:" + "".join(
                    f"\n- {sentence}" for sentence in without
                )
            structured_content = {
                "answer": answer,
                "citations": to_json(passages),
                "cited": list(cited_numbers(answer, len(passages))),
                "claims": to_json(claims),
            }
            return _success(text, structured_content)
        case SearchResult(passages=passages):
            return _success(to_text(passages) or "Nothing was found.", {"passages": to_json(passages)})
        case AppOutput(value=value):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            return _success(text, as_object(value))
        case ToolResult(text=text, structured=found_structured_content, is_error=has_failed):
            return failure(text) if has_failed else _success(text, found_structured_content)
        case _:
            return failure(f"MCP cannot represent this kind of answer: {type(result).__name__}.")


async def _to_content(artifact: Artifact, caller: Principal, library: Library) -> types.ContentBlock:
    """Return a small image or sound inline, and any other file as a resource link."""
    kind = artifact.media_type
    if kind in (*PICTURES, *SOUNDS) and artifact.bytes <= MAX_INLINE_BYTES:
        _artifact, data = await library.read_artifact(caller, artifact.id)
        encoded_data = base64.b64encode(data).decode()
        if kind in SOUNDS:
            return types.AudioContent(type="audio", data=encoded_data, mime_type=kind)
        return types.ImageContent(type="image", data=encoded_data, mime_type=kind)
    return types.ResourceLink(
        type="resource_link",
        name=artifact.name,
        uri=f"portico://artifacts/{artifact.id}",
        mime_type=artifact.media_type,
        size=artifact.bytes,
    )


def _success(text: str, structured_content: Mapping[str, Any] | None) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)],
        structured_content=None if structured_content is None else dict(structured_content),
    )
