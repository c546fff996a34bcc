"""Aliases: names for other names, which an operator can redirect without clients noticing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from portico_server.core.servable import Kind, Servable


class Aliases(Mapping[str, str]):
    """Maps each alias to its target. ``on_change`` is called with the kind of the alias whenever a target changes."""

    def __init__(self, on_change: Callable[[Kind], None]) -> None:
        self.targets: dict[str, str] = {}
        self.behind: dict[str, Servable] = {}
        """Maps aliases to targets that have no name in the registry: an app version, or a split between two targets."""
        self._on_change = on_change

    def __getitem__(self, name: str) -> str:
        return self.targets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.targets)

    def __len__(self) -> int:
        return len(self.targets)

    def set(self, name: str, target: str, behind: Servable | None = None) -> None:
        """Point the alias ``name`` to ``target``; ``behind`` answers calls if ``target`` has no name in the
        registry.
        """
        self.targets[name] = target
        if behind is None:
            self.behind.pop(name, None)
        else:
            self.behind[name] = behind
        self._on_change("model")

    def remove(self, name: str) -> None:
        """Remove the alias ``name``."""
        self.behind.pop(name, None)
        if self.targets.pop(name, None) is not None:
            self._on_change("model")

    def forget(self, identifier: str) -> None:
        """Remove the aliases of a deleted servable, given its id."""
        for alias in [name for name, servable in self.behind.items() if servable.card.id == identifier]:
            del self.behind[alias]

    @property
    def meanings(self) -> dict[str, str]:
        """Maps aliases to the registry names of their targets: the name of the app if the target is a version."""
        return {**self.targets, **{alias: servable.card.key for alias, servable in self.behind.items()}}
