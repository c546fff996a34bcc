"""Adapters: small sets of weights that extend a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter of the model ``base``.

    ``state``: ``cold`` until the base is loaded, ``ready``, ``failed`` if the base runs without the adapter,
    ``orphaned`` if the base no longer exists. ``rank``, ``alpha`` and ``targets`` are read from the adapter's files.
    """

    name: str
    base: str
    kind: str
    scale: float
    state: Literal["cold", "ready", "failed", "orphaned"]
    engine: str | None
    rank: int | None
    alpha: float | None
    targets: tuple[str, ...]
    trained_on: str
    bytes: int
    sha256: str
    configured: bool
    created_at: float


ADAPTERS = Resource(
    "Adapters",
    "/api/adapters",
    "Small sets of weights that extend a model, each with its own model name.",
    {"name": "an adapter"},
    (
        Verb("list", "GET", list[Adapter], positional=("base",)),
        Verb("get", "GET {name}", Adapter),
        Verb("add", "POST", Adapter, slow=True),
        Verb("scale", "PATCH {name}", Adapter, slow=True),
        Verb("export", "POST {name}/export", str, key="run"),
        Verb("remove", "DELETE {name}", slow=True),
    ),
    columns=(
        Column("NAME"),
        Column("BASE"),
        Column("STATE"),
        Column("KIND"),
        Column("SCALE", kind="number"),
        Column("RANK"),
        Column("SIZE", "bytes", kind="bytes"),
    ),
)
