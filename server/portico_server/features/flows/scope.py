"""What a step can refer to while it runs: its input value, earlier steps, and the current iteration."""

from __future__ import annotations

from typing import Any, Final

from portico_server.core.errors import InvalidRequest
from portico_server.features.flows.budget import ValueBudget


class Skipped:
    """Stands for the missing output of a step whose ``when`` was false."""

    def __repr__(self) -> str:
        return "skipped"


SKIPPED: Final = Skipped()


class Scope:
    """The outputs of one combinator's steps, keyed by name, and the scopes of the enclosing combinators.

    ``value`` is the input: the output of the previous step. Steps in an inner scope see the steps of the outer scope,
    but not the other way round. ``state`` belongs to the nearest loop, whose steps set it with ``save``. ``budget``
    limits the size of the values that expressions create.
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
        """Return the output of the nearest step with this name. The check of the flow ensures that the step exists."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        raise InvalidRequest(
            f"The step '{name}' has not run yet when this reference is evaluated.",
            code="step_not_run",
            param=name,
        )
