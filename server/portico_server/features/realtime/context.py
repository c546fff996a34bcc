"""The state that the parts of a session share: its configuration, its conversation, its memory use and its client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sized
from typing import Any, Final, TypeAlias

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Forbidden, PorticoError, TooLarge, TooMany
from portico_server.core.ids import new_id
from portico_server.features.realtime import config
from portico_server.features.realtime.audio import Voices
from portico_server.features.realtime.config import Config
from portico_server.features.realtime.conversation import SessionItems

Emit: TypeAlias = Callable[..., Awaitable[None]]
"""Sends an event to the client, given the event's type and fields."""

Heard: TypeAlias = dict[str, list[tuple[int, str]]]
"""For each message of the conversation, its spoken sentences and the end of each sentence in milliseconds."""

MAX_CONFIG_BYTES: Final = 2 * 2**20
"""Maximum size of a session's configuration, in bytes. The configuration is sent to the client after each change."""

MAX_EVENT_ID_CHARS: Final = 512


class SessionMemory:
    """Counts the memory of a session: its ``buffer``, its conversation, and its options. ``keep`` receives the sum in
    bytes and returns whether the key may use that much memory.
    """

    def __init__(self, keep: Callable[[int], bool], buffer: Sized, config_bytes: int) -> None:
        self._keep = keep
        self._buffer = buffer
        self._items_bytes = 0
        self._request_bytes = config_bytes

    def count(self, extra_bytes: int = 0) -> bool:
        """Count the current memory plus ``extra_bytes``, which are expected. Return whether the session may use it."""
        return self._keep(self._request_bytes + self._items_bytes + len(self._buffer) + extra_bytes)

    def keep_items(self, size: int) -> bool:
        """Set the size of the conversation, in bytes. Return whether the session may use that much memory."""
        self._items_bytes = size
        return self.count()

    def add(self, size: int) -> bool:
        """Count ``size`` additional bytes of options. Return whether the session may use them."""
        self._request_bytes += size
        return self.count()

    def hold(self, size: int, param: str) -> None:
        """Count ``size`` additional bytes of options of the session or its responses. Raises `TooMany`."""
        if not self.add(size):
            self.release(size)
            raise TooMany(
                f"The calls of this key use all of its memory, so '{param}' does not fit. Wait for a call to "
                "end.",
                code="too_many_at_once",
                param=param,
                retry_after=1.0,
            )

    def release(self, size: int) -> None:
        """Release ``size`` bytes."""
        self._request_bytes -= size
        self.count()


class SessionConfig:
    """The configuration of a session. Its client can change the configuration.

    In a ``bound`` session, which was opened with a client secret, the tools of the daemon cannot be changed after the
    start.
    """

    def __init__(self, first: Config, *, bound: bool) -> None:
        self.current = first
        self.size = len(orjson.dumps(first))
        """Size of the configuration as JSON, in bytes."""
        self._granted_names = first if bound else None

    @property
    def only_transcribes(self) -> bool:
        """Return whether the session only transcribes audio and does not answer."""
        return bool(self.current["type"] == config.TRANSCRIPTION)

    @property
    def input(self) -> Mapping[str, Any]:
        """Return the settings for the audio that the client sends."""
        input_settings: Mapping[str, Any] = self.current["audio"]["input"]
        return input_settings

    @property
    def detection(self) -> Mapping[str, Any]:
        """Return the settings for detecting the client's turns."""
        return config.detection_of(self.current) or config.SERVER_VAD

    @property
    def transcription_model(self) -> str | None:
        """Return the transcription model, if the client names one."""
        model: str | None = config.transcription_of(self.current).get("model")
        return model

    def change(self, changed_config: Config, memory: SessionMemory) -> None:
        """Replace the configuration and count its size in ``memory``. Raises `TooLarge` and `TooMany`."""
        size = len(orjson.dumps(changed_config))
        if size > MAX_CONFIG_BYTES:
            raise TooLarge(
                f"The session would have {size:,} bytes; at most {MAX_CONFIG_BYTES:,} are allowed.",
                code="session_too_large",
                param="session",
            )
        memory.hold(size - self.size, "session")
        self.size = size
        self.current = changed_config

    def require_granted(self, new_config: Config, at: str) -> None:
        """Raise `Forbidden` if a configuration uses tools, prompts or models of the daemon that the session's client
        secret does not grant.
        """
        if self._granted_names is None:
            return
        for path, name, granted_names in config.changed_names(new_config, self._granted_names):
            if name not in granted_names:
                raise Forbidden(
                    "A session opened with a client secret can only use the tools, prompt and models of the "
                    "daemon exactly as named when the secret was created, and functions of its client.",
                    code="not_in_client_secret",
                    param=f"{at}.{path}",
                )


@dataclass(frozen=True, slots=True)
class SessionContext:
    """The state that the parts of a session share. ``heard`` records the spoken text of each message."""

    config: SessionConfig
    conversation: SessionItems
    memory: SessionMemory
    voices: Voices
    emit: Emit
    heard: Heard

    async def report(self, error: PorticoError) -> None:
        """Send an error that was not caused by a client event."""
        await self.emit("error", error=error_event(error, None)["error"])


def error_event(error: PorticoError, event_id: Any) -> dict[str, Any]:
    """Return an error as an event; ``event_id`` is the id of the client event that caused the error, or ``None``."""
    error_body = error.body()
    cause = event_id[:MAX_EVENT_ID_CHARS] if isinstance(event_id, str) else None
    return {
        "type": "error",
        "event_id": new_id("event_"),
        "error": {
            "type": error_body.type,
            "code": error_body.code,
            "message": error_body.message,
            "param": error_body.param,
            "event_id": cause,
        },
    }
