"""The tree of a flow's steps: the steps inside a step, the references in it, and which steps write the flow's
answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from portico_server.features.flows.expression import Expression, ReferenceExpression, walk
from portico_server.features.flows.spec import (
    AgentStep,
    BranchStep,
    Case,
    DiverterStep,
    EmbedStep,
    FlowStep,
    GraphStep,
    IntentStep,
    LlmStep,
    LoopStep,
    ParallelStep,
    PipelineStep,
    RerankStep,
    RetrieveStep,
    SubflowStep,
    SwitchStep,
    ToolStep,
    WarpStep,
)


def children(step: FlowStep) -> tuple[FlowStep, ...]:
    """Return the direct child steps."""
    match step.op:
        case (
            PipelineStep(steps=steps)
            | ParallelStep(steps=steps)
            | DiverterStep(steps=steps)
            | GraphStep(steps=steps)
        ):
            return steps
        case WarpStep(step=inner) | LoopStep(step=inner):
            return (inner,)
        case SwitchStep(cases=cases, default=default):
            return (*(case.step for case in cases), *((default,) if default else ()))
        case BranchStep(then=flow_step, otherwise=otherwise):
            return (flow_step, *((otherwise,) if otherwise else ()))
        case SubflowStep(step=FlowStep() as inner):
            return (inner,)
    return ()


def names(root: FlowStep) -> Iterator[str]:
    """Yield the registry keys of everything that a flow calls."""
    for step in every(root):
        match step.op:
            case LlmStep(model=model) | EmbedStep(model=model) | RerankStep(model=model):
                yield model
            case IntentStep(model=model, embedding=embedding):
                yield embedding or model
            case AgentStep(name=name, agent=None):
                yield name
            case ToolStep(name=name):
                yield f"tool/{name}"
            case RetrieveStep(stores=stores):
                yield from (f"store/{store}" for store in stores)
            case SubflowStep(app=app) if app:
                yield app


def every(root: FlowStep) -> Iterator[FlowStep]:
    """Yield a step and all steps inside it."""
    stack = [root]
    while stack:
        step = stack.pop()
        yield step
        stack.extend(reversed(children(step)))


def certain(root: FlowStep) -> Iterator[FlowStep]:
    """Yield a step and the steps inside it that every run without a failed step reaches. Cases of a switch and steps
    for items of a list are excluded.
    """
    if root.when is not None or root.on_error is not None:
        return
    yield root
    if not isinstance(root.op, SwitchStep | BranchStep | WarpStep):
        for child in children(root):
            yield from certain(child)


def expressions(step: FlowStep) -> list[Expression]:
    """Return the expressions of a step itself, without those of the steps inside it."""
    found_expressions: list[Expression] = [
        item
        for item in (step.input, step.when, step.on_error.value if step.on_error else None)
        if item is not None
    ]
    for name in step.op.__dataclass_fields__:
        value = getattr(step.op, name)
        if isinstance(value, Case):
            continue
        if name == "cases":
            found_expressions += [e for case in value for e in (case.equals, case.when) if e is not None]
        elif isinstance(value, tuple):
            found_expressions += [item for item in value if hasattr(item, "of")]
        elif name == "kwargs":
            found_expressions += list(value.values())
        elif hasattr(value, "of"):
            found_expressions.append(value)
    return found_expressions


def references(step: FlowStep) -> set[str]:
    """Return the names of all steps that a step and the steps inside it refer to."""
    found_names = {
        part.step
        for outer in expressions(step)
        for part in walk(outer)
        if isinstance(part, ReferenceExpression) and part.root == "steps"
    }
    for child in children(step):
        found_names |= references(child)
    return found_names


def voices(root: FlowStep) -> frozenset[str]:
    """Return the locations of the steps whose tokens form the flow's own answer: the steps marked ``stream``, or else
    the last step.
    """
    marked_places: set[str] = set()
    stack = [root]
    while stack:
        step = stack.pop()
        if step.stream:
            marked_places.add(step.at)
        stack.extend(children(step))
    if marked_places:
        return frozenset(marked_places)
    last: set[str] = set()
    stack = [root]
    while stack:
        step = stack.pop()
        match step.op:
            case PipelineStep(steps=steps, output=None):
                stack.append(steps[-1])
            case GraphStep(steps=steps, output=ReferenceExpression(root="steps", step=name, keys=())):
                stack.extend(child for child in steps if child.name == name)
            case SwitchStep() | BranchStep():
                stack.extend(children(step))
            case SubflowStep(step=FlowStep() as inner):
                stack.append(inner)
            case _ if step.stream is not False and step.kind in ("llm", "agent", "subflow"):
                last.add(step.at)
    return frozenset(last)
