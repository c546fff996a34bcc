"""Foreign data in a flow: the steps whose output can reach the arguments of another step.

The answer depends on the flow alone, so a repeated run has the same one. Where the order of the steps is not certain,
every step counts that can have run before.
"""

from __future__ import annotations

from collections.abc import Iterable

from portico_server.apps.flow.expression import (
    CodeExpression,
    Expression,
    ReferenceExpression,
    TemplateExpression,
    walk,
)
from portico_server.apps.flow.spec import (
    ApproveStep,
    BranchStep,
    EmitStep,
    FlowStep,
    GraphStep,
    LlmStep,
    LoopStep,
    ParallelStep,
    PipelineStep,
    SubflowStep,
    SwitchStep,
)
from portico_server.apps.flow.tree import children, every, expressions


def steps_before(root: FlowStep, step: FlowStep) -> list[FlowStep]:
    """Return the steps that can run before a step: all steps if the flow has loops or an order of its own."""
    flow_steps = list(every(root))
    if any(isinstance(flow_step.op, LoopStep | GraphStep) for flow_step in flow_steps):
        return flow_steps
    return flow_steps[: [flow_step.at for flow_step in flow_steps].index(step.at)]


def data_in(root: FlowStep, step: FlowStep, values: Iterable[Expression]) -> ReachingData:
    """Return the data that can reach ``values``, which are expressions of a step. A value that a person has approved
    is not foreign, and neither is a literal.
    """
    data = ReachingData(root)
    for value in values:
        data.read(value, step)
    data.read_steps()
    return data


class ReachingData:
    """The data that can reach an expression: outputs of ``steps`` by location, the flow's input, the conversation."""

    def __init__(self, root: FlowStep) -> None:
        self.steps: dict[str, FlowStep] = {}
        self.has_input = False
        self.has_history = False
        self._root = root
        self._all_steps = list(every(root))
        self._parents = {child.at: parent for parent in self._all_steps for child in children(parent)}
        self._unread: list[FlowStep] = []

    def read(self, value: Expression, step: FlowStep, *, is_input: bool = False) -> None:
        """Add the data in an expression of a step. ``is_input``: the expression is the step's own input."""
        for part in walk(value):
            match part:
                case ReferenceExpression(root="steps", step=name):
                    self._unread += [named_step for named_step in self._all_steps if named_step.name == name]
                case ReferenceExpression(root="input"):
                    self.has_input = True
                case ReferenceExpression(root="history"):
                    self.has_history = True
                case (
                    ReferenceExpression(root="value")
                    | TemplateExpression(variables=None)
                    | CodeExpression(args=(), kwargs={})
                ):
                    self._read_value(step, is_outer=is_input)
                case ReferenceExpression(root="item" | "state"):
                    self._read_all_before(step)

    def read_steps(self) -> None:
        """Add the data that the steps which were read so far have read themselves."""
        # A stack, because a flow can be a chain of more steps than Python's limit of recursion.
        while self._unread:
            step = self._unread.pop()
            if step.at not in self.steps:
                self._read_output(step)

    def _read_output(self, step: FlowStep) -> None:
        op = step.op
        if isinstance(op, ApproveStep) and step.on_error is None:
            return
        self.steps[step.at] = step
        for value in expressions(step):
            if value is not step.when:
                self.read(value, step, is_input=value is step.input)
        if isinstance(op, LlmStep) and op.history is not None:
            self.has_history = True
        if children(step):
            self._read_all_before(step)
            self.steps |= {inner.at: inner for inner in every(step)}
        elif isinstance(op, ApproveStep | EmitStep | SubflowStep) or (
            isinstance(op, LlmStep) and op.user is None and op.messages is None
        ):
            self._read_value(step)

    def _read_value(self, step: FlowStep, *, is_outer: bool = False) -> None:
        """Add the data in the input value of a step; with ``is_outer``, in the value before the step's own input."""
        if step.input is not None and not is_outer:
            self.read(step.input, step, is_input=True)
            return
        parent = self._parents.get(step.at)
        match parent:
            case None:
                self.has_input = True
            case FlowStep(op=PipelineStep(steps=siblings)) if not any(map(_jumps, siblings)):
                place = [sibling.at for sibling in siblings].index(step.at)
                for previous in reversed(siblings[:place]):
                    self._unread.append(previous)
                    if previous.when is None:
                        return
                self._read_value(parent)
            case FlowStep(op=ParallelStep() | SwitchStep() | BranchStep() | SubflowStep()):
                self._read_value(parent)
            case _:
                self._read_all_before(step)

    def _read_all_before(self, step: FlowStep) -> None:
        self.has_input = self.has_history = True
        self.steps |= {earlier_step.at: earlier_step for earlier_step in steps_before(self._root, step)}


def _jumps(step: FlowStep) -> bool:
    return step.on_error is not None and bool(step.on_error.goto)
