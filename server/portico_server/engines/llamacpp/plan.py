"""Which parameters a GGUF file gets on this machine: slots, context, threads. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.engines.gguf import Gguf

if TYPE_CHECKING:
    from portico_server.engines.hardware import Hardware

SLOTS = 4
"""Calls that are worked on at the same time."""

SHARE = 0.25
"""Part of the machine's memory that the key-value cache may take."""

ENOUGH = 8_192
"""Tokens per slot above which a smaller context is better than fewer slots."""

LEAST = 512
"""Tokens; below this a context is of no use."""

EMBEDDING_ARCHITECTURES = (
    "bert",
    "nomic-bert",
    "nomic-bert-moe",
    "jina-bert-v2",
    "gemma-embedding",
    "t5encoder",
)

_PARAMETERS: Mapping[str, type | tuple[type, ...]] = {
    "context_length": int,
    "slots": int,
    "threads": int,
    "gpu_layers": int,
    "pooling": str,
    "chat_template": str,
}

POOLINGS = ("mean", "cls", "last")


@dataclass(frozen=True, slots=True)
class Plan:
    """``context_length`` is for one slot, in tokens; ``gpu_layers`` -1 means as many as fit."""

    embedding: bool
    slots: int
    context_length: int
    threads: int
    gpu_layers: int = -1
    pooling: str = ""
    chat_template: str = ""


def check(name: str, parameters: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` for a parameter that llama.cpp does not take from us, or a wrong value."""
    for key, value in parameters.items():
        kind = _PARAMETERS.get(key)
        if kind is None:
            raise InvalidRequest(
                f"The engine 'llamacpp' has no parameter '{key}' (model "
                f"'{name}').{nearest(key, _PARAMETERS)} "
                f"It has {', '.join(_PARAMETERS)}.",
                param=f"parameters.{key}",
            )
        lowest = -1 if key == "gpu_layers" else 1
        if (
            not isinstance(value, kind)
            or isinstance(value, bool)
            or (isinstance(value, int) and value < lowest)
        ):
            wanted = f"a whole number ≥ {lowest}" if kind is int else "a text"
            raise InvalidRequest(
                f"'{key}' of the model '{name}' must be {wanted}.", param=f"parameters.{key}"
            )
    if parameters.get("pooling") not in (None, *POOLINGS):
        raise InvalidRequest(
            f"'pooling' of the model '{name}' must be one of {', '.join(POOLINGS)}.",
            param="parameters.pooling",
        )


def embeds(file: Gguf) -> bool:
    """Whether a file is an embedding model by its own words."""
    return file.pooling in POOLINGS or file.architecture in EMBEDDING_ARCHITECTURES


def plan(file: Gguf, hardware: Hardware, parameters: Mapping[str, Any], *, embedding: bool) -> Plan:
    """What fits: the model's own context for each slot, less of it or fewer slots where memory is short."""
    trained = file.context_length or 4_096
    asked = parameters.get("context_length")
    wanted = min(asked or trained, trained) if embedding else (asked or trained)
    per_token = max(1, file.kv_bytes_per_token)
    tokens = int(hardware.memory_bytes * SHARE) // per_token
    slots = parameters.get("slots") or SLOTS
    if asked is None:
        if parameters.get("slots") is None:
            while slots > 1 and tokens // slots < min(wanted, ENOUGH):
                slots //= 2
        wanted = min(wanted, max(LEAST, tokens // slots // 256 * 256))
    if embedding:
        # A text is one batch, and its compute buffer grows with it.
        wanted = min(wanted, ENOUGH)
    return Plan(
        embedding=embedding,
        slots=slots,
        context_length=wanted,
        threads=parameters.get("threads") or hardware.cores,
        gpu_layers=parameters.get("gpu_layers", -1),
        pooling=parameters.get("pooling") or (file.pooling if file.pooling in POOLINGS else ""),
        chat_template=parameters.get("chat_template", ""),
    )
