"""Packages of apps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PackagedContents:
    """The contents of a package, shown before it is created. ``files``: its entries, in order."""

    app: str
    kind: str
    version: int
    digest: str
    portico: str
    models: tuple[Mapping[str, Any], ...]
    stores: tuple[Mapping[str, Any], ...]
    tools: tuple[str, ...]
    mcp: tuple[str, ...]
    prompts: tuple[Mapping[str, Any], ...]
    apps: tuple[Mapping[str, Any], ...]
    skills: tuple[Mapping[str, Any], ...]
    variables: Mapping[str, str]
    notes: tuple[str, ...]
    files: tuple[str, ...]
