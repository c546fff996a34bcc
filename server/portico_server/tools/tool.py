"""What a tool is: a name, a description, a JSON schema and a call. Results that are too large for an answer are kept as
artifacts, with a link, the head and the tail in their place.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

import orjson

from portico.schemas.artifacts import Artifact
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.request import ToolCall, ToolResult
from portico_server.runs.artifacts import ArtifactStore, NewArtifact

Work: TypeAlias = Callable[[Mapping[str, Any], Context], Awaitable[ToolResult]]
Keyed: TypeAlias = Callable[[ToolCall, Context], Awaitable[ToolResult]]


@dataclass(frozen=True, slots=True)
class Tool:
    """``work`` gets arguments that match ``input_schema``; ``keyed``, in its place, gets the call with its key too, for
    what must be done once although the call is repeated. What goes wrong for a reason that the asking
    model can mend is a `ToolResult` with ``is_error``; everything else is raised.

    ``output_schema`` describes ``ToolResult.structured``. ``read_only``: calling it changes nothing;
    ``destructive``: what it changes may not be mended; ``open_world``: it reaches out of the daemon.
    ``needs_approval``: somebody is asked before each call. ``owner``: the key that alone sees it; ``None`` for all.
    ``group``: a heading to find it under; ``cost``: US dollars that a call costs.
    ``timeout``: seconds that a call may take. ``source``: where the tool comes from, such as ``built-in``.
    """

    name: str
    title: str
    description: str
    input_schema: Mapping[str, Any]
    work: Work | None = None
    keyed: Keyed | None = None
    output_schema: Mapping[str, Any] | None = None
    read_only: bool = True
    destructive: bool = False
    open_world: bool = False
    needs_approval: bool = False
    timeout: float | None = None
    group: str = ""
    cost: float = 0.0
    source: str = "built-in"
    owner: str | None = None


MAX_TEXT_CHARS: Final = 100_000
"""Characters of text that are passed on whole: some 25,000 tokens, more than a model should read at once."""

MAX_STRUCTURED_BYTES: Final = 1024 * 1024
"""Bytes of structured content, as JSON, that are passed on whole."""

HEAD_CHARS: Final = 20_000
TAIL_CHARS: Final = 5_000
"""Characters that stand for a text that was kept."""


async def fitting(
    tool: Tool, result: ToolResult, artifacts: ArtifactStore | None, context: Context
) -> ToolResult:
    """The result, as far as it fits into an answer; the rest is kept for the caller.

    Where nothing can be kept, what does not fit is left out, and the text says so.
    """
    result = await _structured(tool, result, artifacts, context)
    if len(result.text) <= MAX_TEXT_CHARS:
        return result
    length_note = f"{len(result.text)} characters in all"
    artifact = NewArtifact(
        f"{tool.name}.txt", "text/plain; charset=utf-8", result.text.encode("utf-8", "replace")
    )
    kept_artifact = await _kept(artifact, artifacts, context)
    where = (
        f"{length_note}; the rest is left out"
        if kept_artifact is None
        else f"{length_note}: {kept_artifact.link}"
    )
    text = f"{result.text[:HEAD_CHARS]}\n\n[… {where} …]\n\n{result.text[-TAIL_CHARS:]}"
    return replace(
        result, text=text, artifacts=(*result.artifacts, *([kept_artifact] if kept_artifact else ()))
    )


async def _structured(
    tool: Tool, result: ToolResult, artifacts: ArtifactStore | None, context: Context
) -> ToolResult:
    data = None if result.structured is None else _json(result.structured)
    if data is None or len(data) <= MAX_STRUCTURED_BYTES:
        return result
    artifact = await _kept(NewArtifact(f"{tool.name}.json", "application/json", data), artifacts, context)
    where = "which is left out" if artifact is None else f"which is kept at {artifact.link}"
    note = f"[The result has {len(data)} bytes of JSON, {where}.]"
    if tool.output_schema is not None:
        # A client that was promised a structure takes a result without one for broken: an error needs none.
        return ToolResult(
            f"'{tool.name}' answered with more than can be passed on. {note}\n\n{result.text[:HEAD_CHARS]}",
            is_error=True,
            artifacts=(*result.artifacts, *([artifact] if artifact else ())),
        )
    return replace(
        result,
        text=f"{note}\n\n{result.text}",
        structured=None,
        artifacts=(*result.artifacts, *([artifact] if artifact else ())),
    )


async def _kept(
    new_artifact: NewArtifact, artifacts: ArtifactStore | None, context: Context
) -> Artifact | None:
    if artifacts is None:
        return None
    [artifact] = await artifacts.keep([new_artifact], context)
    return artifact


def _json(structured_content: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(structured_content)
    except TypeError:  # an integer beyond 64 bits, half a surrogate pair
        return json.dumps(structured_content, default=str).encode()
