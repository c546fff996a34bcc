"""Changes that applying a configuration makes, and problems in a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Change:
    """An object of a configuration, and what happens to it. ``detail`` names the fields that differ."""

    kind: str
    name: str
    action: Literal["create", "change", "remove", "unchanged"]
    detail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """The applied changes, in order. With ``dry_run``, the planned changes. ``ignored``: parts of the configuration
    that are read only at startup, such as ``keys`` or ``settings.port``.
    """

    changes: tuple[Change, ...]
    dry_run: bool
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem with an entry of the configuration. ``place``: the position of the entry, such as
    ``models[0].source``.
    """

    name: str
    place: str
    reason: str

    @property
    def line(self) -> str:
        """The problem as one line. A model with a problem is left out; a store or an alias exists, but not as
        configured.
        """
        outcome = "left out" if self.place.startswith("models") else "problem"
        return f"{outcome}: {self.name} ({self.place}): {self.reason}"
