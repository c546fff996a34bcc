"""What a step may use of the execution that it is a part of."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from portico.wire import AnswerClaim, Passage, Usage
from portico_server.apps.flow.budget import ValueBudget
from portico_server.apps.flow.expression import CodeExpression, Expression
from portico_server.apps.flow.scope import Scope
from portico_server.apps.flow.spec import FlowSpec, Step
from portico_server.apps.flow.world import FlowServices
from portico_server.core.context import Context
from portico_server.core.question import Answer, Question
from portico_server.db.steps import StepRow
from portico_server.runs.journal import Journal


class StepHost(Protocol):
    """`portico_server.apps.flow.execute.Execution`, seen from within."""

    context: Context
    world: FlowServices
    journal: Journal
    voices: frozenset[str]
    citations: tuple[Passage, ...]
    claims: tuple[AnswerClaim, ...]
    spoken: bool
    turn: int
    answered: frozenset[str] | None
    budget: ValueBudget

    async def step(self, step: Step, scope: Scope, path: str) -> Any:
        """Do one step, or take its output from the journal; its output, or `SKIPPED`."""

    async def collected(self, step: Step, scope: Scope, path: str) -> Any:
        """`step`, an error of which is its output: ``{"error": {...}}``."""

    def known(self, path: str) -> StepRow | None:
        """The step, if an earlier attempt of this run has ended it."""

    async def swept(self, rows: Sequence[StepRow]) -> None:
        """Write down that many items of a step have ended well, and say so."""

    async def inner(self, flow: FlowSpec, value: Any, context: Context, path: str, *, aloud: bool) -> Any:
        """The output of another flow that runs as a part of this one, its steps under ``path``."""

    async def value(self, expression: Expression, scope: Scope) -> Any:
        """The value of an expression, which may be code."""

    async def truth(self, expression: Expression, scope: Scope) -> bool:
        """Whether a condition holds."""

    async def call(self, code: CodeExpression, scope: Scope) -> Any:
        """Call a function in the sandbox."""

    def waiting(self) -> AbstractContextManager[None]:
        """Within it, the flow's own limit stands still."""

    async def ask(self, question: Question) -> Answer:
        """`Context.ask`, for which the flow's own limit stands still."""

    async def spend(self, usage: Usage) -> None:
        """Count tokens, and tell the run about them."""

    def key(self, path: str) -> str:
        """What makes an effect of the step at ``path`` known as the same when it is done again."""


# The way from a step that failed to a later one.


class JumpToStep(Exception):  # it is not an error: a pipeline further out continues from it
    """An error that becomes a jump to a later step of a pipeline, into which ``value`` flows."""

    def __init__(self, step: str, value: Any) -> None:
        super().__init__(step)
        self.step = step
        self.value = value
