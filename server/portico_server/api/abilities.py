"""What models and apps can do, read from their cards for the lists of models of every API. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from portico_server.core.registry import Registry
from portico_server.core.servable import Card

Modality: TypeAlias = Literal["text", "image", "audio", "embedding", "score"]

_MODALITIES: Final[Mapping[str, tuple[Modality, Modality]]] = {
    "chat": ("text", "text"),
    "embeddings": ("text", "embedding"),
    "rerank": ("text", "score"),
    "moderation": ("text", "score"),
    "speech": ("text", "audio"),
    "transcription": ("audio", "text"),
    "image": ("text", "image"),
}
"""Input and output of a model, by its capability."""


def context_length_of(card: Card, registry: Registry) -> int | None:
    """Return the maximum number of tokens of a call, or ``None`` if unknown. For an app, it is that of its model."""
    writer = registry.get(str(card.labels.get("model") or "")) if card.kind == "app" else None
    length = (writer.card if writer is not None else card).labels.get("context_length")
    return length if isinstance(length, int) else None


def calls_tools(card: Card) -> bool:
    """Return whether a model or app calls functions of the request.

    The daemon handles tool calls for every chat model. Agents and flows use only their own tools.
    """
    return "chat" in card.capabilities and "app" not in card.capabilities


def can_reason(card: Card) -> bool | None:
    """Return whether a request can set how much a model reasons, or ``None`` if only the model's provider knows."""
    return None if "hosted" in card.capabilities else "thoughts" in card.capabilities


def inputs_of(card: Card) -> list[Modality]:
    """Return the kinds of content that a model accepts."""
    sees = not card.capabilities.isdisjoint({"vision", "image_edits"})
    inputs = [accepts for capability, (accepts, _) in _MODALITIES.items() if capability in card.capabilities]
    return [*inputs, "image"] if sees else inputs


def outputs_of(card: Card) -> list[Modality]:
    """Return the kinds of content that a model returns."""
    return [returns for capability, (_, returns) in _MODALITIES.items() if capability in card.capabilities]
