"""What a configuration changes, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one thing of a configuration: ``action`` is ``create``, ``change``, ``remove`` or ``unchanged``;
    ``detail`` names the fields that differ.
    """

    kind: str
    name: str
    action: str
    detail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done about a configuration, in order; with ``dry_run`` what would be. ``ignored``: keys of it that a
    running daemon does not take.
    """

    changes: tuple[Change, ...]
    dry_run: bool = False
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """An entry of the configuration that cannot work as it says, where that stands (``models[0].source``), and why."""

    name: str
    place: str
    reason: str

    @property
    def line(self) -> str:
        """All of it in a line. A model is left out; a store or an alias is there, but not as it was asked for."""
        outcome = "left out" if self.place.startswith("models") else "problem"
        return f"{outcome}: {self.name} ({self.place}): {self.reason}"
