"""Where an OpenAI-compatible server differs from OpenAI, and a request made to fit it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico_server.core.errors import InvalidRequest
from portico_server.core.relay import Operation
from portico_server.engines.remote.pictures import Pictures

BOOKKEEPING = frozenset(
    {"metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user", "verbosity"}
)
"""Fields that OpenAI keeps for itself: an answer is the same without them."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """One server's habits. The default is OpenAI's own dialect, relayed as it is.

    ``renamed`` maps a field of a chat to the name it has there; ``dropped`` are fields that it would refuse
    and that change nothing which was asked for; ``refused`` are fields that it cannot honour, so that leaving
    them out would be a lie. ``taken``: any other field is dropped.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    taken: frozenset[str] | None = None
    stream_usage: bool = True
    """Whether it may be asked for the token counts of a stream."""
    strict_tools: bool = True
    """Whether ``tools[].function.strict`` is known there."""
    developer: bool = True
    """Whether the role ``developer`` is known there; otherwise it becomes ``system``."""
    embedding_batch: int | None = None
    """Texts that one call may embed."""
    base64: bool = True
    """Whether it sends embeddings as base64, which OpenAI's own clients ask for."""
    pictures: Pictures = Pictures()


def fit(body: Mapping[str, Any], operation: Operation, quirks: Quirks, name: str) -> dict[str, Any]:
    """The body as this server takes it.

    Raises `InvalidRequest` for a field that cannot be honoured; ``name`` is the model's, for the message.
    """
    given = {key: value for key, value in body.items() if value is not None}
    if operation != "chat/completions":
        return given
    for key in sorted(quirks.refused & given.keys()):
        if not _says_nothing(key, given[key]):
            raise InvalidRequest(
                f"The provider of '{name}' does not take '{key}': leave it out, or use another model.",
                code="unsupported_parameter",
                param=key,
            )
    fitted: dict[str, Any] = {}
    for key, value in given.items():
        if key in quirks.dropped or key in quirks.refused:
            continue
        target = quirks.renamed.get(key, key)
        if target != key and target in given:
            continue  # both were sent: the one that needs no translation counts
        if quirks.taken is None or target in quirks.taken:
            fitted[target] = value
    if not quirks.stream_usage:
        fitted.pop("stream_options", None)
    if not quirks.developer:
        fitted["messages"] = [_without_developer(message) for message in fitted.get("messages", ())]
    if not quirks.strict_tools and "tools" in fitted:
        fitted["tools"] = [_without_strict(tool) for tool in fitted["tools"]]
    return fitted


def _says_nothing(key: str, value: Any) -> bool:
    """Whether a field only asks for what happens anyway."""
    return value in ({"n": 1, "response_format": {"type": "text"}}.get(key), False, [], {})


def _without_developer(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**message, "role": "system"} if message.get("role") == "developer" else message


def _without_strict(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function")
    if not isinstance(function, Mapping) or "strict" not in function:
        return tool
    return {**tool, "function": {key: value for key, value in function.items() if key != "strict"}}
