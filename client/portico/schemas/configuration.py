"""What a configuration changes, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Change:
    """One thing and what is to become of it. ``detail`` names the fields that differ."""

    kind: str
    name: str
    action: Literal["create", "change", "remove", "unchanged"]
    detail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done, in order; with ``dry_run`` what would be. ``ignored``: keys that only a start takes."""

    changes: tuple[Change, ...]
    dry_run: bool
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """An entry of a configuration that cannot work as it says. ``place``: where that stands, as in
    ``models[0].source``.
    """

    name: str
    place: str
    reason: str

    @property
    def line(self) -> str:
        """All of it in a line. A model is left out; a store or an alias is there, but not as it was asked for."""
        outcome = "left out" if self.place.startswith("models") else "problem"
        return f"{outcome}: {self.name} ({self.place}): {self.reason}"
