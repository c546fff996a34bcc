"""Transcribes a recording with a speech recognition model."""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from portico.audio import Stretch
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.core.media import Attachment, Transcribe, Transcription
from portico_server.core.registry import Registry
from portico_server.core.request import ToolResult
from portico_server.features.tools.able import able
from portico_server.features.tools.builtin.draw import PictureFiles
from portico_server.features.tools.tool import Tool

EXAMPLE = "portico models add ear --source hf://openai/whisper-small"

_DATA_URL = re.compile(r"data:audio/(?P<format>[a-z0-9]{1,8});base64,")

MAX_SOUND_BYTES: Final = 64 * 2**20

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
    """Return ``transcribe``, which converts a recording to text. An id names the recording's file."""

    async def work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        try:
            model = await able(
                registry,
                "transcription",
                arguments.get("model") or "",
                context.caller,
                task_name="transcribes",
                example=EXAMPLE,
            )
            transcription = await context.call(model, await _request(arguments, files, context))
        except PorticoError as error:
            if error.status >= 500:
                raise
            return ToolResult(error.message, is_error=True)
        if not isinstance(transcription, Transcription):
            raise EngineFailed(f"'{model}' returned something other than a transcript.")
        structured_content = {
            "model": model,
            "text": transcription.text,
            "language": transcription.language or None,
            "duration": transcription.duration,
            "segments": _to_json(transcription.segments),
            "words": _to_json(transcription.words),
        }
        return ToolResult(transcription.text or "The recording contains no speech.", structured_content)

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
                    "description": "The id of an uploaded file (file-…) or an artifact (art_…), or words around one; "
                    "or a recording as a data URL, data:audio/wav;base64,….",
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


def _decode(url: str) -> tuple[str, bytes]:
    """Return the name and the bytes of a recording in a data URL. Raise `InvalidRequest`."""
    match = _DATA_URL.match(url)
    try:
        if match is None:
            raise ValueError
        return f"recording.{match['format']}", base64.b64decode(url[match.end() :], validate=True)
    except ValueError as error:
        raise InvalidRequest(
            "The recording is not a base64 data URL of audio: data:audio/wav;base64,….",
            param="arguments.file",
        ) from error


def _to_json(stretches: Sequence[Stretch]) -> list[dict[str, Any]]:
    return [asdict(stretch) for stretch in stretches]


async def _request(arguments: Mapping[str, Any], files: PictureFiles, context: Context) -> Transcribe:
    source = arguments["file"]
    if source.startswith("data:"):
        name, data = _decode(source)
    else:
        match = _ID.search(source)
        name, data = await files.read(match[0] if match else source, context.caller, limit=MAX_SOUND_BYTES)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Transcribe(
        Attachment("file", name.rpartition("/")[2], kind, data),
        arguments.get("language", ""),
        arguments.get("prompt", ""),
        translate=arguments.get("translate", False),
        timestamps=arguments.get("timestamps", ""),
    )
