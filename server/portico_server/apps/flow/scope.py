"""What a step can see while it runs: its value, the steps before it, and the iteration it is in."""

from __future__ import annotations

from typing import Any, Final

from portico_server.apps.flow.budget import ValueBudget
from portico_server.core.errors import InvalidRequest


class Skipped:
    """The output of a step whose ``when`` was false: there is none."""

    def __repr__(self) -> str:
        return "skipped"


SKIPPED: Final = Skipped()


class Scope:
    """The names of one combinator's steps, and those around it.

    ``value`` is what flows in: the output of the step before. An inner scope sees the outer one's steps, never the
    other way round. ``state`` belongs to the nearest loop, whose steps write it with ``save``. ``budget`` is what the
    values that expressions make are held to.
    """

    __slots__ = ("budget", "history", "index", "input", "item", "names", "outer", "state", "value")

    def __init__(
        self,
        outer: Scope | None,
        value: Any,
        *,
        input: Any = None,
        history: Any = (),
        budget: ValueBudget | None = None,
    ) -> None:
        self.outer = outer
        self.value = value
        self.names: dict[str, Any] = {}
        if outer is None:
            self.input, self.history = input, history
            self.budget = budget or ValueBudget()
            self.item: Any = None
            self.index: int | None = None
            self.state: dict[str, Any] = {}
        else:
            self.input, self.history, self.budget = outer.input, outer.history, outer.budget
            self.item, self.index, self.state = outer.item, outer.index, outer.state

    def output(self, name: str) -> Any:
        """The output of the nearest step of this name. The check before the run has made sure that there is one."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        raise InvalidRequest(
            f"The step '{name}' has not run when it is referred to.", code="step_not_run", param=name
        )
