"""The configuration of a session, parsed from its client's events, and the options of single responses."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from portico_server.core import fields
from portico_server.core.errors import PorticoError
from portico_server.core.fields import BodyField
from portico_server.core.ids import new_id
from portico_server.core.invalid import not_one_of, wrong
from portico_server.features.realtime.audio import PCM, RATES_HZ
from portico_server.features.realtime.input_buffer import NOISE_LEVELS, reduces_noise
from portico_server.features.responses import read as responses
from portico_server.features.responses import tools

Config: TypeAlias = dict[str, Any]
"""A session as its client sees it, with all its fields."""

MAX_SESSION_S: Final = 3600
"""Maximum duration of a session in seconds, as in OpenAI's API."""

MAX_PADDING_MS: Final = 5_000
MAX_SILENCE_MS: Final = 10_000
MAX_IDLE_MS: Final = 30_000

SERVER_VAD: Final[Mapping[str, Any]] = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
    "idle_timeout_ms": None,
    "create_response": True,
    "interrupt_response": True,
}
SEMANTIC_VAD: Final[Mapping[str, Any]] = {
    "type": "semantic_vad",
    "eagerness": "auto",
    "create_response": True,
    "interrupt_response": True,
}
"""The default turn detection."""

PAUSES_MS: Final[Mapping[str, int]] = {"low": 1_600, "medium": 800, "high": 400}
"""Pause that ends a turn, in milliseconds, by the eagerness of ``semantic_vad``. The content of the speech is
ignored.
"""

REALTIME: Final = "realtime"
TRANSCRIPTION: Final = "transcription"
"""The session type that only transcribes audio and does not answer."""

UNLIMITED: Final = "inf"
TOOL_KINDS: Final = ("function", "mcp")


def _most_tokens(value: Any, path: str) -> None:
    if value != UNLIMITED:
        expectation = f"a whole number of at least 1, or '{UNLIMITED}'"
        fields.integer(1, expectation=expectation).check(value, path)


def _modalities(value: Any, path: str) -> None:
    if value not in (["text"], ["audio"]):
        fields.items(fields.choice("text", "audio"), "a list of words").check(value, path)
        wrong(path, 'must be ["text"] or ["audio"]: audio always includes its text')


def _tools(value: Any, path: str) -> None:
    fields.items(fields.mapping(), "a list of tools").check(value, path)
    for number, tool in enumerate(value):
        if tool.get("type") not in TOOL_KINDS:
            not_one_of(f"{path}[{number}].type", tool.get("type"), TOOL_KINDS)


def _truncation(value: Any, path: str) -> None:
    if isinstance(value, dict):
        wrong(path, "must not be an object: send 'auto' or 'disabled'", code="unsupported_parameter")
    fields.choice("auto", "disabled").check(value, path)


def _include(value: Any, path: str) -> None:
    if value:
        wrong(path, "is not available: probabilities are not computed", code="unsupported_parameter")


def _noise(value: Any, path: str) -> None:
    fields.closed_object({"type": fields.choice(*NOISE_LEVELS)}, required_fields=("type",)).check(value, path)
    if not reduces_noise():
        wrong(
            path,
            "requires the package webrtc-noise-gain, which is not installed: send null",
            code="unsupported_parameter",
        )


def _format(value: Any, path: str) -> None:
    body_fields = {"type": fields.choice(*RATES_HZ), "rate": fields.integer()}
    fields.closed_object(body_fields, required_fields=("type",)).check(value, path)
    rate = RATES_HZ[value["type"]]
    if value.get("rate") not in (None, rate):
        wrong(f"{path}.rate", f"must be {rate} for {value['type']}")


def _voice(value: Any, path: str) -> None:
    if not isinstance(value, str):
        fields.closed_object({"id": fields.name()}, required_fields=("id",)).check(value, path)


_ANSWERED: Final = {"create_response": fields.boolean(), "interrupt_response": fields.boolean()}
_DETECTION: Final = fields.by_type(
    {
        "server_vad": fields.closed_object(
            {
                "type": fields.text(),
                "threshold": fields.number(0, 1),
                "prefix_padding_ms": fields.integer(0, MAX_PADDING_MS),
                "silence_duration_ms": fields.integer(20, MAX_SILENCE_MS),
                "idle_timeout_ms": fields.integer(100, MAX_IDLE_MS),
                **_ANSWERED,
            }
        ),
        "semantic_vad": fields.closed_object(
            {"type": fields.text(), "eagerness": fields.choice("auto", *PAUSES_MS), **_ANSWERED}
        ),
    }
)
_OUTPUT: Final = fields.closed_object(
    {
        "format": BodyField(_format, {}),
        "model": fields.name(),
        "voice": BodyField(_voice, {}),
        "speed": fields.number(0.25, 4),
    }
)
_TEXTS: Final = fields.items(fields.text(), "a list of strings")
_INPUT: Final = fields.closed_object(
    {
        "format": BodyField(_format, {}),
        "noise_reduction": BodyField(_noise, {}),
        "transcription": fields.closed_object(
            {
                "model": fields.name(),
                "language": fields.text(),
                "languages": _TEXTS,
                "prompt": fields.text(),
                "keywords": _TEXTS,
                # A recording is transcribed when it is complete, so no transcript can be delayed for accuracy.
                "delay": fields.choice("minimal", "low", "medium", "high", "xhigh"),
            }
        ),
        "turn_detection": _DETECTION,
    }
)
_ASKED: Final[Mapping[str, BodyField]] = {
    "instructions": fields.text(),
    "max_output_tokens": BodyField(_most_tokens, {}),
    "output_modalities": BodyField(_modalities, {}),
    "parallel_tool_calls": fields.boolean(),
    "prompt": fields.mapping({"id": fields.name()}),
    "reasoning": fields.closed_object({"effort": fields.choice(*responses.EFFORTS)}),
    "tool_choice": fields.any_value(),
    "tools": BodyField(_tools, {}),
}
"""Options that a session sets for all its responses, and that a client can override for a single response."""

_SESSION: Final = fields.closed_object(
    {
        **_ASKED,
        "audio": fields.closed_object({"input": _INPUT, "output": _OUTPUT}),
        "type": fields.choice(REALTIME, TRANSCRIPTION),
        "model": fields.name(),
        "truncation": BodyField(_truncation, {}),
        "tracing": fields.any_value(),
        "include": BodyField(_include, {}),
        # Fields that the daemon sends, and that clients may send back.
        "id": fields.text(),
        "object": fields.text(),
        "expires_at": fields.any_value(),
    },
    required_fields=("type",),
)
_WRITING: Final = fields.closed_object(
    {
        "audio": fields.closed_object({"input": _INPUT}),
        "type": fields.text(),
        "include": BodyField(_include, {}),
        "id": fields.text(),
        "object": fields.text(),
        "expires_at": fields.any_value(),
    },
    required_fields=("type",),
)
_RESPONSE: Final = fields.closed_object(
    {
        **_ASKED,
        "audio": fields.closed_object({"output": _OUTPUT}),
        "conversation": fields.choice("auto", "none"),
        "input": fields.items(fields.any_value(), "a list of items"),
        "metadata": BodyField(lambda value, _path: _metadata(value), {}),
    }
)
_TOLD: Final = ("id", "object", "expires_at", "type", "model")


def _metadata(value: Any) -> None:
    responses.metadata(value)


def _initial_config(kind: str, model: str | None) -> Config:
    input_settings = {
        "format": {"type": PCM, "rate": RATES_HZ[PCM]},
        "noise_reduction": None,
        "transcription": None,
        "turn_detection": None,
    }
    session = {"type": kind, "id": new_id("sess_"), "expires_at": int(time.time()) + MAX_SESSION_S}
    if kind == TRANSCRIPTION:
        if model is not None:
            input_settings["transcription"] = {"model": model}
        return {
            **session,
            "object": "realtime.transcription_session",
            "audio": {"input": input_settings},
            "include": None,
        }
    return {
        **session,
        "object": "realtime.session",
        "model": model,
        "output_modalities": ["text"],
        "audio": {
            "input": input_settings,
            "output": {
                "format": {"type": PCM, "rate": RATES_HZ[PCM]},
                "model": None,
                "voice": "default",
                "speed": 1.0,
            },
        },
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "max_output_tokens": UNLIMITED,
        "reasoning": None,
        "prompt": None,
        "truncation": "auto",
        "tracing": None,
        "include": None,
    }


def initial_config(model: str) -> Config:
    """Return the initial configuration of a session."""
    return _initial_config(REALTIME, model)


def opened_to_write(model: str | None = None) -> Config:
    """Return the initial configuration of a transcription session, with the transcription model if ``model`` is
    given.
    """
    return _initial_config(TRANSCRIPTION, model)


def require(given_fields: Any, at: str = "session") -> None:
    """Raise `InvalidRequest` unless a client may set these fields of a session."""
    writes = isinstance(given_fields, dict) and given_fields.get("type") == TRANSCRIPTION
    (_WRITING if writes else _SESSION).check(given_fields, at)


def updated(config: Config, given_changes: Any, at: str = "session") -> Config:
    """Return the session's configuration with a client's changes; ``null`` resets a field to its initial value."""
    require(given_changes, at)
    if given_changes["type"] != config["type"]:
        wrong(f"{at}.type", f"cannot be changed from '{config['type']}': open a new session")
    model = given_changes.get("model")
    if model is not None and model != config["model"]:
        wrong(f"{at}.model", f"cannot be changed from '{config['model']}': open a new session")
    first = _initial_config(config["type"], config.get("model"))
    changes = {name: first[name] if value is None else value for name, value in given_changes.items()}
    new_config = {**config, **{name: value for name, value in changes.items() if name not in _TOLD}}
    new_config["audio"] = _audio(config["audio"], given_changes.get("audio", {}), first["audio"])
    if new_config["type"] == REALTIME:
        _check_tools(new_config, at)
    return new_config


def transcription_of(session: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the client's settings for transcription, from fields that `require` accepted."""
    input_settings = (session.get("audio") or {}).get("input") or {}
    return input_settings.get("transcription") or {}


def detection_of(config: Config) -> Mapping[str, Any] | None:
    """Return the turn detection of a session with all fields of ``server_vad``; ``None`` if the client itself marks
    the end of turns.
    """
    detection: Mapping[str, Any] | None = config["audio"]["input"]["turn_detection"]
    if detection is not None and "eagerness" in detection:
        pause = PAUSES_MS.get(detection["eagerness"], PAUSES_MS["medium"])
        detection = {**SERVER_VAD, **detection, "silence_duration_ms": pause}
    if detection is not None and config["type"] == TRANSCRIPTION:  # such a session answers nothing
        detection = {
            **detection,
            "create_response": False,
            "interrupt_response": False,
            "idle_timeout_ms": None,
        }
    return detection


def noise_of(config: Config) -> str | None:
    """Return the position of the microphone, which noise reduction needs, or ``None`` to disable noise reduction."""
    noise_reduction: Mapping[str, Any] | None = config["audio"]["input"]["noise_reduction"]
    return None if noise_reduction is None else str(noise_reduction["type"])


def _audio(now: Config, given_changes: Mapping[str, Any] | None, first: Config) -> Config:
    """Return the audio settings with a client's changes."""
    if given_changes is None:
        return first
    config: Config = {}
    for side, side_settings in now.items():
        changes = given_changes.get(side, {})
        if changes is None:
            config[side] = first[side]
            continue
        config[side] = {
            **side_settings,
            **{n: first[side][n] if v is None else v for n, v in changes.items()},
        }
        detection = config[side].get("turn_detection")
        if detection is not None:
            default_detection = SERVER_VAD if detection["type"] == SERVER_VAD["type"] else SEMANTIC_VAD
            given_changes = {name: value for name, value in detection.items() if value is not None}
            config[side]["turn_detection"] = {**default_detection, **given_changes}
    return config


def _check_tools(new_fields: Mapping[str, Any], at: str) -> None:
    with inside(at):
        tools.read(new_fields)


def asked(config: Config, given_fields: Any, at: str = "response") -> Config:
    """Return the options of one response: the options of the session, with the client's changes for this response."""
    if given_fields is None:
        given_fields = {}
    _RESPONSE.check(given_fields, at)
    response_config = {**config, **{name: value for name, value in given_fields.items() if value is not None}}
    response_config["audio"] = _audio(config["audio"], given_fields.get("audio") or {}, config["audio"])
    _check_tools(response_config, at)
    return response_config


def changed_names(config: Config, granted_config: Config) -> Iterator[tuple[str, Any, Sequence[Any]]]:
    """Yield each model, prompt or tool of the daemon that a session names: its location, its name, and the names that
    the client secret allows at this location.
    """
    transcription_model, granted_model = (
        transcription_of(settings).get("model") for settings in (config, granted_config)
    )
    if config["type"] == TRANSCRIPTION:
        yield "audio.input.transcription.model", transcription_model, (granted_model,)
        return
    for number, tool in enumerate(config["tools"]):
        if tool["type"] != "function":
            yield f"tools[{number}]", tool, granted_config["tools"]
    yield "prompt", config["prompt"], (None, granted_config["prompt"])
    yield "audio.input.transcription.model", transcription_model, (None, granted_model)
    speech_model, granted_model = (
        settings["audio"]["output"]["model"] for settings in (config, granted_config)
    )
    yield "audio.output.model", speech_model, (None, granted_model)


def body_of(config: Config, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the request for a response, with ``items`` as the conversation."""
    body: dict[str, Any] = {
        "model": config["model"],
        "input": list(items),
        "store": False,
        "stream": True,
        "truncation": config["truncation"],
    }
    if config["instructions"]:
        if items or config["prompt"]:
            body["instructions"] = config["instructions"]
        else:  # a model always needs an input
            body["input"] = [{"role": "developer", "content": config["instructions"]}]
    if config["tools"]:
        body |= {name: config[name] for name in ("tools", "tool_choice", "parallel_tool_calls")}
    if config["max_output_tokens"] != UNLIMITED:
        body["max_output_tokens"] = config["max_output_tokens"]
    body |= {name: config[name] for name in ("prompt", "reasoning") if config[name] is not None}
    return body


@contextmanager
def inside(at: str) -> Iterator[None]:
    """Prefix the locations of errors that are raised inside the block with ``at``."""
    try:
        yield
    except PorticoError as error:
        if error.param and not error.param.startswith(f"{at}."):
            error.message = error.message.replace(f"'{error.param}'", f"'{at}.{error.param}'", 1)
            error.param = f"{at}.{error.param}"
        raise
