"""Creates speech from a text, or music from a description, with a suitable model."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.media import Speak, Speech
from portico_server.core.registry import Registry
from portico_server.core.request import ToolResult
from portico_server.features.tools.able import able
from portico_server.features.tools.artifact import ARTIFACT
from portico_server.features.tools.tool import Tool
from portico_server.runs.artifacts import ArtifactStore, NewArtifact

EXAMPLE = "portico models add voice --source hf://facebook/mms-tts-eng"

_ENDINGS = {
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/pcm": "pcm",
    "audio/opus": "opus",
    "audio/flac": "flac",
}


def tool(registry: Registry, artifacts: ArtifactStore) -> Tool:
    """Return ``speak``, which creates audio and stores it as an artifact."""

    async def work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        try:
            model = await able(
                registry,
                "speech",
                arguments.get("model") or "",
                context.caller,
                task_name="speaks",
                example=EXAMPLE,
            )
            speech = await context.call(model, _request(arguments))
        except PorticoError as error:
            if error.status >= 500:
                raise
            return ToolResult(error.message, is_error=True)
        if not isinstance(speech, Speech):
            raise EngineFailed(f"'{model}' returned something other than audio.")
        kind = speech.media_type.partition(";")[0].strip()
        ending = _ENDINGS.get(kind) or (mimetypes.guess_extension(kind) or ".bin").removeprefix(".")
        [artifact] = await artifacts.keep([NewArtifact(f"speech.{ending}", kind, speech.audio)], context)
        text = f"Made {artifact.name} ({artifact.bytes} bytes): {artifact.link}"
        return ToolResult(text, {"model": model, "artifact": asdict(artifact)}, artifacts=(artifact,))

    return Tool(
        name="speak",
        title="Speak",
        description=(
            "Say a text aloud, and get a sound file. With a model that makes music, the text describes the music."
        ),
        input_schema={
            "type": "object",
            "properties": {
                "text": {"type": "string", "minLength": 1, "maxLength": 32_768},
                "model": {
                    "type": "string",
                    "description": "A model that speaks; the first one there is if left out.",
                },
                "voice": {"type": "string", "description": "One of the model's voices."},
                "format": {"enum": ["wav", "mp3", "opus", "aac", "flac", "pcm"], "default": "wav"},
                "speed": {"type": "number", "minimum": 0.25, "maximum": 4},
                "instructions": {
                    "type": "string",
                    "maxLength": 4096,
                    "description": "How to say it, for models that listen to that.",
                },
                "seconds": {"type": "number", "minimum": 0.1, "description": "How long music is to be."},
            },
            "required": ["text"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "model": {"type": "string"},
                "artifact": ARTIFACT,
            },
            "required": ["model", "artifact"],
        },
        work=work,
        group="media",
        read_only=False,
    )


def _request(arguments: Mapping[str, Any]) -> Speak:
    return Speak(
        arguments["text"],
        arguments.get("voice", ""),
        arguments.get("format", "wav"),
        arguments.get("speed", 1.0),
        arguments.get("instructions", ""),
        {"seconds": arguments["seconds"]} if "seconds" in arguments else {},
    )
