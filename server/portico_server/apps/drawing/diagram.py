"""What an app is made of, as a tree that can be drawn: the same for flows and agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from portico_server.apps.flow import spec as flow
from portico_server.apps.flow.expression import Comparison, Expression, Reference
from portico_server.apps.flow.expression import Literal as Constant
from portico_server.apps.flow.spec import Flow, Step
from portico_server.core.errors import InvalidRequest

Shape: TypeAlias = Literal["leaf", "chain", "fan", "choice", "frame", "graph"]

MOST: Final = 1_000
"""Boxes of a picture that a person can still look at."""


@dataclass(frozen=True, slots=True)
class Node:
    """A box, or several that belong together.

    ``chain``: its children one after the other. ``fan``: side by side, each of them. ``choice``: side by side, one of
    them; ``labels`` says when. ``frame``: around one child; ``again`` draws a way back. ``graph``: each child behind
    those in ``after``.
    """

    name: str
    kind: str
    shape: Shape = "leaf"
    detail: str = ""
    children: tuple[Node, ...] = ()
    labels: tuple[str, ...] = ()
    passes: bool = False
    """Of a choice: what flows in may go on untouched."""
    again: bool = False
    after: Mapping[str, frozenset[str]] = field(default_factory=dict)


def of_flow(made: Flow) -> Node:
    """A flow as a tree of boxes. Raises `InvalidRequest` for one that is too large to look at."""
    return _Tree().node(made.step)


def of_agent(name: str, spec: Mapping[str, Any]) -> Node:
    """An agent with its tools, its stores and the agents that it asks."""
    nodes: dict[str, Node] = {}
    after: dict[str, frozenset[str]] = {}
    _agent(name, spec, "", nodes, after)
    return Node(name, "agent", "graph", children=tuple(nodes.values()), after=after)


def _agent(
    name: str,
    spec: Mapping[str, Any],
    asked_by: str,
    nodes: dict[str, Node],
    after: dict[str, frozenset[str]],
) -> None:
    """Put an agent and what it uses into ``nodes``; something that several use has one box."""

    def put(key: str, node: Node, user: str) -> None:
        if len(nodes) >= MOST:
            raise _too_large()
        nodes.setdefault(key, node)
        after[key] = after.get(key, frozenset()) | ({user} if user else frozenset())

    put(name, Node(name, "agent", detail=str(spec.get("model") or "default")), asked_by)
    for item in spec.get("tools") or ():
        tool = item.get("tool", "") if isinstance(item, dict) else str(item)
        put(f"tool/{tool}", Node(f"tool/{tool}", "tool"), name)
    for store in spec.get("stores") or ():
        put(f"store/{store}", Node(f"store/{store}", "retrieve"), name)
    for item in spec.get("agents") or ():
        other = item.get("agent") if isinstance(item, dict) else item
        if isinstance(other, dict):
            called = str(other.get("name") or "agent")
            if called not in nodes:
                _agent(called, other, name, nodes, after)
        elif other:
            put(str(other), Node(str(other), "agent"), name)


class _Tree:
    def __init__(self) -> None:
        self._count = 0

    def node(self, step: Step) -> Node:
        self._count += 1
        if self._count > MOST:
            raise _too_large()
        match step.op:
            case flow.Pipeline(steps=steps):
                return Node(step.name, step.kind, "chain", children=self._all(steps))
            case flow.Parallel(steps=steps, join=join) | flow.Diverter(steps=steps, join=join):
                return Node(step.name, step.kind, "fan", join, self._all(steps))
            case flow.Warp(step=inner, concurrency=most):
                return Node(step.name, step.kind, "frame", f"each item, {most} at once", (self.node(inner),))
            case flow.Loop(step=inner, limit=limit):
                return Node(
                    step.name, step.kind, "frame", f"up to {limit} rounds", (self.node(inner),), again=True
                )
            case flow.Subflow(step=Step() as inner):
                return Node(step.name, step.kind, "frame", children=(self.node(inner),))
            case flow.Switch(on=on, cases=cases, default=default):
                labels = tuple(_condition(case.equals or case.when) for case in cases)
                return Node(
                    step.name,
                    step.kind,
                    "choice",
                    _said(on),
                    self._all([*(case.step for case in cases), *([default] if default else [])]),
                    (*labels, *(["else"] if default else [])),
                )
            case flow.Branch(condition=condition, then=then, otherwise=otherwise):
                return Node(
                    step.name,
                    step.kind,
                    "choice",
                    _condition(condition),
                    self._all([then, *([otherwise] if otherwise else [])]),
                    ("yes", "no")[: 2 if otherwise else 1],
                    passes=otherwise is None,
                )
            case flow.Graph(steps=steps, after=after):
                return Node(step.name, step.kind, "graph", children=self._all(steps), after=after)
        return Node(step.name, step.kind, detail=_what(step))

    def _all(self, steps: Sequence[Step]) -> tuple[Node, ...]:
        return tuple(self.node(step) for step in steps)


def _what(step: Step) -> str:
    """What a step uses, in a word or two."""
    match step.op:
        case (
            flow.Llm(model=model)
            | flow.Intent(model=model)
            | flow.Embed(model=model)
            | flow.Rerank(model=model)
        ):
            return model
        case flow.Agent(name=name) | flow.Tool(name=name):
            return name
        case flow.Retrieve(stores=stores):
            return ", ".join(stores)
        case flow.Client(function=function):
            return function
        case flow.Subflow(app=app):
            return app
        case flow.Http(method=method):
            return method
    return ""


def _condition(given: Expression | None) -> str:
    match given:
        case Constant(value=value):
            return str(value)
        case Comparison(operator=operator, sides=sides):
            return f" {operator.removeprefix('$')} ".join(_said(side) for side in sides)
    return _said(given) if given is not None else ""


def _said(given: Expression) -> str:
    match given:
        case Reference():
            return given.text
        case Constant(value=value):
            return str(value)
    return "…"


def _too_large() -> InvalidRequest:
    return InvalidRequest(
        f"This app has more than {MOST:,} steps: nobody could look at the picture. Draw the apps that it is made of.",
        code="too_large_to_draw",
    )
