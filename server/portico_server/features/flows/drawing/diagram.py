"""The parts of an app as a tree that can be drawn. Flows and agents use the same kind of tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.db.steps import StepRow
from portico_server.features.flows import spec as flow
from portico_server.features.flows.expression import ComparisonExpression, Expression, ReferenceExpression
from portico_server.features.flows.expression import LiteralExpression as Constant
from portico_server.features.flows.spec import FlowSpec, FlowStep

Shape: TypeAlias = Literal["leaf", "chain", "fan", "choice", "frame", "graph"]

MAX_BOXES: Final = 1_000
"""Maximum number of boxes in a diagram. A person could not read a larger diagram."""


@dataclass(frozen=True, slots=True)
class DiagramNode:
    """A box, or several boxes that belong together.

    ``chain``: the children follow one another. ``fan``: all children side by side. ``choice``: the children are side
    by side, and one of them is chosen; ``labels`` says when. ``frame``: a frame around one child; ``again`` draws a
    way back. ``graph``: each child follows the children listed in ``after``.
    """

    name: str
    kind: str
    shape: Shape = "leaf"
    detail: str = ""
    children: tuple[DiagramNode, ...] = ()
    labels: tuple[str, ...] = ()
    passes: bool = False
    """For a choice: whether the input may pass unchanged, without any of the children."""
    again: bool = False
    after: Mapping[str, frozenset[str]] = field(default_factory=dict)


def of_flow(flow_spec: FlowSpec, *, conditions: bool = True) -> DiagramNode:
    """Return a flow as a tree of boxes, with its conditions unless ``conditions`` is false. Raise `InvalidRequest` if
    the flow is too large for a readable diagram.
    """
    return _Tree(conditions).node(flow_spec.step)


def of_agent(name: str, spec: Mapping[str, Any]) -> DiagramNode:
    """Return an agent as a graph with its tools, its stores and the agents that it calls."""
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
    """Add an agent and everything that it uses to ``nodes``. A tool, store or agent that several agents use gets
    one box.
    """

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
        sub_agent = item.get("agent") if isinstance(item, dict) else item
        if isinstance(sub_agent, dict):
            agent_name = str(sub_agent.get("name") or "agent")
            if agent_name not in nodes:
                _agent(agent_name, sub_agent, name, nodes, after)
        elif sub_agent:
            put(str(sub_agent), DiagramNode(str(sub_agent), "agent"), name)


class _Tree:
    def __init__(self, conditions: bool) -> None:
        self._conditions = conditions
        self._count = 0

    def node(self, step: FlowStep) -> DiagramNode:
        self._count += 1
        if self._count > MAX_BOXES:
            raise _too_large()
        match step.op:
            case flow.PipelineStep(steps=steps):
                return DiagramNode(step.name, step.kind, "chain", children=self._to_nodes(steps))
            case flow.ParallelStep(steps=steps, join=join) | flow.DiverterStep(steps=steps, join=join):
                return DiagramNode(step.name, step.kind, "fan", join, self._to_nodes(steps))
            case flow.WarpStep(step=inner, concurrency=most):
                return DiagramNode(
                    step.name, step.kind, "frame", f"each item, {most} concurrently", (self.node(inner),)
                )
            case flow.LoopStep(step=inner, limit=limit):
                return DiagramNode(
                    step.name, step.kind, "frame", f"up to {limit} rounds", (self.node(inner),), again=True
                )
            case flow.SubflowStep(step=FlowStep() as inner):
                return DiagramNode(step.name, step.kind, "frame", children=(self.node(inner),))
            case flow.SwitchStep(on=on, cases=cases, default=default):
                labels = tuple(self._condition(case.equals or case.when) for case in cases)
                return DiagramNode(
                    step.name,
                    step.kind,
                    "choice",
                    _operand(on) if self._conditions else "",
                    self._to_nodes([*(case.step for case in cases), *([default] if default else [])]),
                    (*labels, *(["else"] if default else [])),
                )
            case flow.BranchStep(condition=condition, then=flow_step, otherwise=otherwise):
                return DiagramNode(
                    step.name,
                    step.kind,
                    "choice",
                    self._condition(condition),
                    self._to_nodes([flow_step, *([otherwise] if otherwise else [])]),
                    ("yes", "no")[: 2 if otherwise else 1],
                    passes=otherwise is None,
                )
            case flow.GraphStep(steps=steps, after=after):
                return DiagramNode(step.name, step.kind, "graph", children=self._to_nodes(steps), after=after)
        return DiagramNode(step.name, step.kind, detail=_summarize(step))

    def _to_nodes(self, steps: Sequence[FlowStep]) -> tuple[DiagramNode, ...]:
        return tuple(self.node(step) for step in steps)

    def _condition(self, expression: Expression | None) -> str:
        return _condition(expression) if self._conditions else ""


def _summarize(step: FlowStep) -> str:
    """Return the model, tool or store that a step uses, in one or two words."""
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


def _condition(expression: Expression | None) -> str:
    match expression:
        case Constant(value=value):
            return str(value)
        case ComparisonExpression(operator=operator, sides=sides):
            return f" {operator.removeprefix('$')} ".join(_operand(side) for side in sides)
    return _operand(expression) if expression is not None else ""


def _operand(expression: Expression) -> str:
    match expression:
        case ReferenceExpression():
            return expression.text
        case Constant(value=value):
            return str(value)
    return "…"


def _too_large() -> InvalidRequest:
    return InvalidRequest(
        f"This app has more than {MAX_BOXES:,} steps, too many for a readable diagram. Draw its component "
        "apps instead.",
        code="too_large_to_draw",
    )


_ENTITIES = str.maketrans({"#": "#35;", "&": "#38;", '"': "#quot;", "<": "#lt;", ">": "#gt;"})


@dataclass(frozen=True, slots=True)
class _Ends:
    """The first boxes of a part, with the labels of the arrows to these boxes, and the part's last boxes."""

    entries: tuple[tuple[str, str], ...]
    exits: tuple[tuple[str, str], ...]


def mermaid(root: DiagramNode) -> str:
    """Return a diagram as a Mermaid flowchart, from ``input`` to ``output``."""
    return _MermaidWriter().write(root)


class _MermaidWriter:
    def __init__(self) -> None:
        self._lines = ["flowchart TD"]
        self._count = 0
        self._depth = 1

    def write(self, root: DiagramNode) -> str:
        if root.kind == "agent":
            self._part(root)
        else:
            first, last = _Ends((("start", ""),), (("start", ""),)), _Ends((("end_", ""),), (("end_", ""),))
            self._say("start([input])")
            ends = self._part(root)
            self._say("end_([output])")
            self._join(first, ends)
            self._join(ends, last)
        return "\n".join(self._lines) + "\n"

    def _say(self, line: str) -> None:
        self._lines.append("    " * self._depth + line)

    def _id(self) -> str:
        self._count += 1
        return f"n{self._count}"

    def _join(self, before: _Ends, after: _Ends) -> None:
        for source, label_before in before.exits:
            for target, also in after.entries:
                label = label_before or also
                self._say(f'{source} -->|"{_text(label)}"| {target}' if label else f"{source} --> {target}")

    def _part(self, node: DiagramNode) -> _Ends:
        match node.shape:
            case "leaf":
                return self._leaf(node)
            case "chain":
                parts = [self._part(child) for child in node.children]
                for before, after in pairwise(parts):
                    self._join(before, after)
                return _Ends(parts[0].entries, parts[-1].exits)
            case "fan":
                return self._fan(node)
            case "choice":
                return self._choice(node)
            case "frame":
                return self._frame(node)
        return self._graph(node)

    def _leaf(self, node: DiagramNode) -> _Ends:
        node_id = self._id()
        caption = " · ".join(word for word in (node.kind, node.detail) if word)
        self._say(f'{node_id}["<b>{_text(node.name)}</b><br/>{_text(caption)}"]')
        return _Ends(((node_id, ""),), ((node_id, ""),))

    def _fan(self, node: DiagramNode) -> _Ends:
        self._open(node, node.kind)
        parts = [self._part(child) for child in node.children]
        self._close()
        join_id = self._id()
        self._say(f'{join_id}(("{_text(node.detail)}"))')
        end = _Ends(((join_id, ""),), ((join_id, ""),))
        for part in parts:
            self._join(part, end)
        return _Ends(tuple(entry for part in parts for entry in part.entries), end.exits)

    def _choice(self, node: DiagramNode) -> _Ends:
        choice = self._id()
        self._say(f'{choice}{{"{_text(node.name)}: {_text(node.detail)}"}}')
        exits: list[tuple[str, str]] = [(choice, "no")] if node.passes else []
        for child, label in zip(node.children, node.labels, strict=True):
            part = self._part(child)
            self._join(_Ends((), ((choice, label),)), part)
            exits += part.exits
        return _Ends(((choice, ""),), tuple(exits))

    def _frame(self, node: DiagramNode) -> _Ends:
        self._open(node, f"{node.kind}, {node.detail}" if node.detail else node.kind)
        part = self._part(node.children[0])
        if node.again:
            for source, _label in part.exits:
                self._say(f'{source} -.->|"again"| {part.entries[0][0]}')
        self._close()
        return part

    def _graph(self, node: DiagramNode) -> _Ends:
        if node.kind != "agent":
            self._open(node, node.kind)
        parts = {child.name: self._part(child) for child in node.children}
        target_names: set[str] = set()
        for name, other_names in node.after.items():
            for other_name in sorted(other_names):
                self._join(parts[other_name], parts[name])
            target_names |= other_names
        if node.kind != "agent":
            self._close()
        return _Ends(
            tuple(e for name, part in parts.items() if not node.after.get(name) for e in part.entries),
            tuple(e for name, part in parts.items() if name not in target_names for e in part.exits),
        )

    def _open(self, node: DiagramNode, caption: str) -> None:
        self._say(f'subgraph {self._id()}["{_text(node.name)} ({_text(caption)})"]')
        self._depth += 1

    def _close(self) -> None:
        self._depth -= 1
        self._say("end")


def _text(text: str) -> str:
    """Return quoted text in which characters of Mermaid's syntax are written as entities."""
    short = " ".join(text.split())
    short = short if len(short) <= 60 else f"{short[:59]}…"
    return short.translate(_ENTITIES)


# The steps of a run as a Mermaid Gantt chart: how long they took and which overlap. Source:
# https://mermaid.js.org/syntax/gantt.html


MAX_BARS = 500
"""Maximum number of bars in a chart, so that a person can read it. A chart shows the longest steps."""

_SIGNS = str.maketrans(dict.fromkeys(":;#,\n", " "))


def gantt(run_id: str, rows: Sequence[StepRow]) -> str:
    """Return the chart for a run. Its time axis begins with the first step; skipped steps are omitted, failed steps
    are marked.
    """
    shown_rows = [row for row in rows if row.status != "skipped"]
    shown_rows = sorted(shown_rows, key=lambda row: -row.milliseconds)[:MAX_BARS]
    shown_rows.sort(key=lambda row: (row.started_at, len(row.path)))
    first = min((row.started_at for row in shown_rows), default=0.0)
    lines = ["gantt", f"    title {run_id}", "    dateFormat x", "    axisFormat %M:%S.%L"]
    section = ""
    for row in shown_rows:
        outer = row.path.rpartition(".")[0] or row.path
        if outer != section:
            section = outer
            lines.append(f"    section {outer.translate(_SIGNS)}")
        begin = round((row.started_at - first) * 1e3)
        end = begin + max(1, round(row.milliseconds))
        mark = "crit, " if row.status == "failed" else "done, " if row.hit else ""
        name = row.path.rpartition(".")[2].translate(_SIGNS)
        lines.append(f"    {name} ({row.kind}) :{mark}{begin}, {end}")
    return "\n".join(lines) + "\n"
