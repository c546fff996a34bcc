"""The changes of a configuration, and its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Change:
    """An item and its change. ``detail`` names the fields that differ."""

    kind: str
    name: str
    action: Literal["create", "change", "remove", "unchanged"]
    detail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """The applied changes, in order; with ``dry_run``, the planned changes. ``ignored``: keys that are read only at
    startup.
    """

    changes: tuple[Change, ...]
    dry_run: bool
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """An entry of a configuration that cannot work as written. ``place``: its position, such as
    ``models[0].source``.
    """

    name: str
    place: str
    reason: str

    @property
    def line(self) -> str:
        """The problem as one line. A model is omitted; a store or an alias exists, but not as configured."""
        outcome = "left out" if self.place.startswith("models") else "problem"
        return f"{outcome}: {self.name} ({self.place}): {self.reason}"
