"""What an app is made of, as a tree that can be drawn: the same for flows and agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from portico_server.apps.flow import spec as flow
from portico_server.apps.flow.expression import ComparisonExpression, Expression, ReferenceExpression
from portico_server.apps.flow.expression import LiteralExpression as Constant
from portico_server.apps.flow.spec import FlowSpec, Step
from portico_server.core.errors import InvalidRequest

Shape: TypeAlias = Literal["leaf", "chain", "fan", "choice", "frame", "graph"]

MAX_BOXES: Final = 1_000
"""Boxes of a picture that a person can still look at."""


@dataclass(frozen=True, slots=True)
class DiagramNode:
    """A box, or several that belong together.

    ``chain``: its children one after the other. ``fan``: side by side, each of them. ``choice``: side by side, one of
    them; ``labels`` says when. ``frame``: around one child; ``again`` draws a way back. ``graph``: each child behind
    those in ``after``.
    """

    name: str
    kind: str
    shape: Shape = "leaf"
    detail: str = ""
    children: tuple[DiagramNode, ...] = ()
    labels: tuple[str, ...] = ()
    passes: bool = False
    """Of a choice: what flows in may continue untouched."""
    again: bool = False
    after: Mapping[str, frozenset[str]] = field(default_factory=dict)


def of_flow(made: FlowSpec) -> DiagramNode:
    """A flow as a tree of boxes. Raises `InvalidRequest` for one that is too large to look at."""
    return _Tree().node(made.step)


def of_agent(name: str, spec: Mapping[str, Any]) -> DiagramNode:
    """An agent with its tools, its stores and the agents that it asks."""
    nodes: dict[str, DiagramNode] = {}
    after: dict[str, frozenset[str]] = {}
    _agent(name, spec, "", nodes, after)
    return DiagramNode(name, "agent", "graph", children=tuple(nodes.values()), after=after)


def _agent(
    name: str,
    spec: Mapping[str, Any],
    asked_by: str,
    nodes: dict[str, DiagramNode],
    after: dict[str, frozenset[str]],
) -> None:
    """Put an agent and what it uses into ``nodes``; something that several use has one box."""

    def put(key: str, node: DiagramNode, user: str) -> None:
        if len(nodes) >= MAX_BOXES:
            raise _too_large()
        nodes.setdefault(key, node)
        after[key] = after.get(key, frozenset()) | ({user} if user else frozenset())

    put(name, DiagramNode(name, "agent", detail=str(spec.get("model") or "default")), asked_by)
    for item in spec.get("tools") or ():
        tool = item.get("tool", "") if isinstance(item, dict) else str(item)
        put(f"tool/{tool}", DiagramNode(f"tool/{tool}", "tool"), name)
    for store in spec.get("stores") or ():
        put(f"store/{store}", DiagramNode(f"store/{store}", "retrieve"), name)
    for item in spec.get("agents") or ():
        other = item.get("agent") if isinstance(item, dict) else item
        if isinstance(other, dict):
            called = str(other.get("name") or "agent")
            if called not in nodes:
                _agent(called, other, name, nodes, after)
        elif other:
            put(str(other), DiagramNode(str(other), "agent"), name)


class _Tree:
    def __init__(self) -> None:
        self._count = 0

    def node(self, step: Step) -> DiagramNode:
        self._count += 1
        if self._count > MAX_BOXES:
            raise _too_large()
        match step.op:
            case flow.PipelineStep(steps=steps):
                return DiagramNode(step.name, step.kind, "chain", children=self._all(steps))
            case flow.ParallelStep(steps=steps, join=join) | flow.DiverterStep(steps=steps, join=join):
                return DiagramNode(step.name, step.kind, "fan", join, self._all(steps))
            case flow.WarpStep(step=inner, concurrency=most):
                return DiagramNode(
                    step.name, step.kind, "frame", f"each item, {most} at once", (self.node(inner),)
                )
            case flow.LoopStep(step=inner, limit=limit):
                return DiagramNode(
                    step.name, step.kind, "frame", f"up to {limit} rounds", (self.node(inner),), again=True
                )
            case flow.SubflowStep(step=Step() as inner):
                return DiagramNode(step.name, step.kind, "frame", children=(self.node(inner),))
            case flow.SwitchStep(on=on, cases=cases, default=default):
                labels = tuple(_condition(case.equals or case.when) for case in cases)
                return DiagramNode(
                    step.name,
                    step.kind,
                    "choice",
                    _operand(on),
                    self._all([*(case.step for case in cases), *([default] if default else [])]),
                    (*labels, *(["else"] if default else [])),
                )
            case flow.BranchStep(condition=condition, then=then, otherwise=otherwise):
                return DiagramNode(
                    step.name,
                    step.kind,
                    "choice",
                    _condition(condition),
                    self._all([then, *([otherwise] if otherwise else [])]),
                    ("yes", "no")[: 2 if otherwise else 1],
                    passes=otherwise is None,
                )
            case flow.GraphStep(steps=steps, after=after):
                return DiagramNode(step.name, step.kind, "graph", children=self._all(steps), after=after)
        return DiagramNode(step.name, step.kind, detail=_what(step))

    def _all(self, steps: Sequence[Step]) -> tuple[DiagramNode, ...]:
        return tuple(self.node(step) for step in steps)


def _what(step: Step) -> str:
    """What a step uses, in a word or two."""
    match step.op:
        case (
            flow.LlmStep(model=model)
            | flow.IntentStep(model=model)
            | flow.EmbedStep(model=model)
            | flow.RerankStep(model=model)
        ):
            return model
        case flow.AgentStep(name=name) | flow.ToolStep(name=name):
            return name
        case flow.RetrieveStep(stores=stores):
            return ", ".join(stores)
        case flow.ClientStep(function=function):
            return function
        case flow.SubflowStep(app=app):
            return app
        case flow.HttpStep(method=method):
            return method
    return ""


def _condition(given: Expression | None) -> str:
    match given:
        case Constant(value=value):
            return str(value)
        case ComparisonExpression(operator=operator, sides=sides):
            return f" {operator.removeprefix('$')} ".join(_operand(side) for side in sides)
    return _operand(given) if given is not None else ""


def _operand(given: Expression) -> str:
    match given:
        case ReferenceExpression():
            return given.text
        case Constant(value=value):
            return str(value)
    return "…"


def _too_large() -> InvalidRequest:
    return InvalidRequest(
        f"This app has more than {MAX_BOXES:,} steps: nobody could look at the picture. Draw the apps that it is made "
        f"of.",
        code="too_large_to_draw",
    )
