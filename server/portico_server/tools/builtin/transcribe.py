"""What is said in a recording, written down by a model that listens."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.media import Attachment, Transcribe, Transcript, TranscriptSegment
from portico_server.core.registry import Registry
from portico_server.core.request import ToolResult
from portico_server.tools.able import able
from portico_server.tools.builtin.draw import PictureFiles
from portico_server.tools.tool import Tool

EXAMPLE = "portico models add ear --source hf://openai/whisper-small"

_ID = re.compile(r"\b(?:file-|art_)[A-Za-z0-9_-]+")

_STRETCHES: Mapping[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "start": {"type": "number", "description": "Seconds from the beginning."},
            "end": {"type": "number"},
            "text": {"type": "string"},
        },
        "required": ["start", "end", "text"],
    },
}


def tool(registry: Registry, files: PictureFiles) -> Tool:
    """``transcribe``: a file by its id into text."""

    async def work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        try:
            model = await able(
                registry,
                "transcription",
                arguments.get("model") or "",
                context.caller,
                what="transcribes",
                example=EXAMPLE,
            )
            found = await context.call(model, await _request(arguments, files, context))
        except PorticoError as error:
            if error.status >= 500:
                raise
            return ToolResult(error.message, is_error=True)
        if not isinstance(found, Transcript):
            raise EngineFailed(f"'{model}' answered something that is not a transcript.")
        structured = {
            "model": model,
            "text": found.text,
            "language": found.language or None,
            "duration": found.duration,
            "segments": _shown(found.segments),
            "words": _shown(found.words),
        }
        return ToolResult(found.text or "Nothing is said in it.", structured)

    return Tool(
        name="transcribe",
        title="Transcribe",
        description="Write down what is said in a recording, with the times of sentences or words if asked for.",
        input_schema={
            "type": "object",
            "properties": {
                "file": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The id of an uploaded file (file-…) or an artifact (art_…), or words around one.",
                },
                "model": {
                    "type": "string",
                    "description": "A model that transcribes; the first one there is if left out.",
                },
                "language": {"type": "string", "description": "What is spoken, as ISO 639-1, such as en."},
                "prompt": {
                    "type": "string",
                    "maxLength": 4096,
                    "description": "Names and words as they are spelled.",
                },
                "translate": {"type": "boolean", "description": "Write it down in English."},
                "timestamps": {"enum": ["segment", "word"]},
            },
            "required": ["file"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "model": {"type": "string"},
                "text": {"type": "string"},
                "language": {"type": ["string", "null"]},
                "duration": {"type": ["number", "null"], "description": "Seconds."},
                "segments": _STRETCHES,
                "words": _STRETCHES,
            },
            "required": ["model", "text", "language", "duration", "segments", "words"],
        },
        work=work,
        group="media",
    )


def _shown(stretches: Sequence[TranscriptSegment]) -> list[dict[str, Any]]:
    return [asdict(one) for one in stretches]


async def _request(arguments: Mapping[str, Any], files: PictureFiles, context: Context) -> Transcribe:
    found = _ID.search(arguments["file"])
    name, data = await files.read(found[0] if found else arguments["file"], context.caller)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Transcribe(
        Attachment("file", name.rpartition("/")[2], kind, data),
        arguments.get("language", ""),
        arguments.get("prompt", ""),
        translate=arguments.get("translate", False),
        timestamps=arguments.get("timestamps", ""),
    )
