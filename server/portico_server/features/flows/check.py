"""Check of a whole flow before any step runs: names, references, incompatible values."""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError, nearest
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.servable import Card
from portico_server.features.flows import spec
from portico_server.features.flows.code_check import check_code
from portico_server.features.flows.expression import (
    CodeExpression,
    Expression,
    ObjectExpression,
    ReferenceExpression,
    TemplateExpression,
    walk,
)
from portico_server.features.flows.expression import LiteralExpression as Constant
from portico_server.features.flows.host import FlowServices, InlineAgents
from portico_server.features.flows.spec import FlowSpec, FlowStep
from portico_server.features.flows.tree import children, every, expressions

Shape: TypeAlias = Literal["text", "list", "object", "number", "any"]
"""The type of a value, as far as it is known before the flow runs."""

CODE_MAY_STAND: Final = ("input", "when", "on", "condition", "until", "over", "output", "value")
"""Fields that may contain code. The executor awaits the code in these fields."""


@dataclass(frozen=True, slots=True)
class _Later:
    """The later steps of a pipeline, and of the pipelines that enclose it."""

    places: Mapping[str, int]
    """The position of each step in the pipeline, keyed by step name."""
    at: int = 0
    outer: _Later | None = None

    def __contains__(self, name: str) -> bool:
        return self.places.get(name, -1) > self.at or (self.outer is not None and name in self.outer)

    def __iter__(self) -> Iterator[str]:
        yield from (name for name, place in self.places.items() if place > self.at)
        if self.outer is not None:
            yield from self.outer


_NOWHERE: Final = _Later({})


@dataclass(frozen=True, slots=True)
class _View:
    """What a step can refer to: the outputs of earlier steps, and the combinators that enclose it."""

    names: Mapping[str, Shape]
    value: Shape
    later: _Later = _NOWHERE
    """Steps of the enclosing pipelines to which an error may jump."""
    item: bool = False
    index: bool = False
    state: bool = False


async def check(flow: FlowSpec, registry: Registry, caller: Principal, world: FlowServices) -> None:
    """Raise `InvalidRequest` for the first error, with its location and reason, and with the nearest existing name if
    a name is wrong.
    """
    everywhere = {step.name: step.at for step in every(flow.step)}
    checker = _Checker(registry, caller, everywhere, world.agents)
    await checker.step(flow.step, _View({}, _of_schema(flow.input_schema)))
    await check_code(flow, world.evaluator, caller)


_STEPS_AT_ONCE: Final = 200
"""Number of steps checked before yielding to the event loop."""


class _Checker:
    def __init__(
        self,
        registry: Registry,
        caller: Principal,
        everywhere: Mapping[str, str],
        agents: InlineAgents | None,
    ) -> None:
        self._agents = agents
        self._registry = registry
        self._caller = caller
        self._everywhere = everywhere
        self._cards: dict[str, Card] = {}
        self._looked_at = 0

    async def step(self, step: FlowStep, view: _View) -> Shape:
        """Check a step and all steps inside it. Return the shape of its output."""
        self._looked_at += 1
        if not self._looked_at % _STEPS_AT_ONCE:
            await asyncio.sleep(0)  # a flow may have thousands
        if step.input is not None:
            self._sees(step, step.input, view)
            view = replace(view, value=self._shape(step.input, view))
        for expression in self._own_expressions(step):
            self._sees(step, expression, view)
        if isinstance(step.when, Constant) and not step.when.value:
            raise _wrong(step, "when", "is always false, so the step is unreachable", "unreachable_step")
        if step.on_error is not None and step.on_error.goto and step.on_error.goto not in view.later:
            raise _wrong(
                step,
                "on_error.goto",
                f"names '{step.on_error.goto}', which is not a later step of an enclosing pipeline."
                + nearest(step.on_error.goto, view.later),
                "unknown_step",
            )
        if step.on_error is not None and step.on_error.value is not None:
            self._sees(step, step.on_error.value, replace(view, value="object"))
        if step.save and not view.state:
            raise _wrong(step, "save", "is only allowed within a loop, whose state it sets", "not_in_loop")
        return await self._op(step, view)

    def _own_expressions(self, step: FlowStep) -> list[Expression]:
        """Return the expressions of a step that are evaluated in the step's own scope."""
        inner = {"until", "output"}
        mine = expressions(step)
        apart = [getattr(step.op, name) for name in inner if getattr(step.op, name, None) is not None]
        if step.on_error is not None and step.on_error.value is not None:
            apart.append(step.on_error.value)
        return [item for item in mine if not any(item is other_item for other_item in apart)]

    def _sees(self, step: FlowStep, expression: Expression, view: _View) -> None:
        """Check that every reference in an expression resolves, and that code occurs only where the executor
        awaits it.
        """
        for part in walk(expression):
            if isinstance(part, CodeExpression) and part is not expression:
                raise _wrong(
                    step, "", f"has code at {part.at}, within another expression", "code_not_here", part.at
                )
            if isinstance(part, CodeExpression) and not self._may_be_code(step, expression):
                raise _wrong(
                    step, "", f"has code at {part.at}, where code is not allowed", "code_not_here", part.at
                )
            if isinstance(part, ReferenceExpression):
                self._leads(part, view)

    def _may_be_code(self, step: FlowStep, expression: Expression) -> bool:
        if isinstance(step.op, spec.CodeStep) and expression is step.op.code:
            return True
        field_values = [getattr(step, name, None) for name in CODE_MAY_STAND]
        field_values += [getattr(step.op, name, None) for name in CODE_MAY_STAND]
        if isinstance(step.op, spec.SwitchStep):
            field_values += [case.when for case in step.op.cases]
        if step.on_error is not None:
            field_values.append(step.on_error.value)
        return any(expression is item for item in field_values)

    def _leads(self, reference: ReferenceExpression, view: _View) -> None:
        if reference.root in ("item", "index", "state") and not getattr(view, reference.root):
            allowed_steps = {"item": "a warp", "index": "a warp or a loop", "state": "a loop"}[reference.root]
            raise InvalidRequest(
                f"{reference.at}: '{reference.root}' is only available within {allowed_steps}.",
                code="invalid_reference",
                param=reference.at,
            )
        if reference.root != "steps" or reference.step in view.names:
            return
        name = reference.step
        if name in self._everywhere:
            raise InvalidRequest(
                f"{reference.at} refers to the step '{name}', which has not ended at that point or is inside "
                f"another step: it is at {self._everywhere[name]}. Refer to an earlier "
                f"step{', such as ' + ', '.join(list(view.names)[-3:]) if view.names else ''}.",
                code="step_not_visible",
                param=reference.at,
            )
        raise InvalidRequest(
            f"{reference.at} refers to the step '{name}', which does not exist.{nearest(name, self._everywhere)}",
            code="unknown_step",
            param=reference.at,
        )

    def _shape(self, expression: Expression, view: _View) -> Shape:
        match expression:
            case Constant(value=value):
                return _of_value(value)
            case TemplateExpression():
                return "text"
            case ObjectExpression():
                return "object"
            case ReferenceExpression(root="value", keys=()):
                return view.value
            case ReferenceExpression(root="steps", step=name, keys=()):
                return view.names.get(name, "any")
        return "any"

    def _wants(self, step: FlowStep, field: str, expression: Expression, view: _View, *shapes: Shape) -> None:
        found_shape = self._shape(expression, view)
        if found_shape not in (*shapes, "any"):
            raise _wrong(
                step,
                field,
                f"requires {' or '.join(_WORDS[shape] for shape in shapes)}, but gets {_WORDS[found_shape]}",
                "type_clash",
            )

    async def _op(self, step: FlowStep, view: _View) -> Shape:
        match step.op:
            case spec.LlmStep() as op:
                await self._model(step, "model", op.model, "chat")
                return "text" if op.format.type in ("text", "last") else _of_schema(op.format.schema)
            case spec.IntentStep() as op:
                await self._model(
                    step, "model", op.embedding or op.model, "embeddings" if op.embedding else "chat"
                )
                return "text"
            case spec.EmbedStep() as op:
                await self._model(step, "model", op.model, "embeddings")
                return "list"
            case spec.AgentStep() as op if op.agent is not None:
                assert self._agents is not None
                formats = await self._agents.inline_exists(op.agent, self._caller, f"{step.at}.agent")
                return "any" if formats else "text"
            case spec.AgentStep() as op:
                await self._model(step, "agent", op.name, "chat")
                return "text"
            case spec.ToolStep() as op:
                await self._tool(step, op, view)
                return "any"
            case spec.HttpStep():
                await self._find_card(step, "op", "tool/http_request")
                return "object"
            case spec.RetrieveStep() as op:
                for store in op.stores:
                    await self._find_card(step, "store", f"store/{store}")
                self._wants(step, "query", op.query, view, "text")
                return "list"
            case spec.RerankStep() as op:
                await self._model(step, "model", op.model, "rerank")
                self._wants(step, "documents", op.documents, view, "list")
                return "list"
            case spec.ApproveStep() as op:
                return view.value if op.answer_schema is None else _of_schema(op.answer_schema)
            case spec.EmitStep():
                return view.value
            case spec.CodeStep() | spec.ClientStep():
                return _of_schema(step.output_schema)
        return await self._combinator(step, view)

    async def _combinator(self, step: FlowStep, view: _View) -> Shape:
        match step.op:
            case spec.PipelineStep() as op:
                return await self._pipeline(step, op, view)
            case spec.ParallelStep() | spec.DiverterStep() as op:
                inner = view
                if isinstance(op, spec.DiverterStep):
                    if view.value in ("text", "number"):
                        raise _wrong(
                            step, "", f"requires a list, but gets {_WORDS[view.value]}", "type_clash"
                        )
                    inner = replace(view, value="any")
                for child in op.steps:
                    await self.step(child, inner)
                return {"list": "list", "zip": "list", "dict": "object", "text": "text"}.get(op.join, "any")  # type: ignore[return-value]
            case spec.WarpStep() as op:
                self._wants(step, "over", op.over, view, "list")
                await self.step(op.step, replace(view, value="any", item=True, index=True))
                return "list"
            case spec.SwitchStep() as op:
                shapes = {await self.step(child, view) for child in children(step)}
                return shapes.pop() if len(shapes) == 1 else "any"
            case spec.BranchStep() as op:
                shapes = {await self.step(child, view) for child in children(step)}
                if op.otherwise is None:
                    shapes.add(view.value)
                return shapes.pop() if len(shapes) == 1 else "any"
            case spec.LoopStep() as op:
                inner = replace(view, value="any", index=True, state=True)
                shape = await self.step(op.step, inner)
                if op.until is not None:
                    self._sees(
                        step, op.until, replace(inner, value=shape, names={**view.names, op.step.name: shape})
                    )
                return "any"
            case spec.GraphStep() as op:
                return await self._graph(step, op, view)
            case spec.SubflowStep() as op:
                if op.step is not None:
                    return await self.step(op.step, _View({}, view.value))
                await self._find_card(step, "app", op.app)
        return "any"

    async def _pipeline(self, step: FlowStep, op: spec.PipelineStep, view: _View) -> Shape:
        names = dict(view.names)
        value = view.value
        places = {child.name: number for number, child in enumerate(op.steps)}
        for number, child in enumerate(op.steps):
            later = _Later(places, number, view.later)
            shape = await self.step(child, replace(view, names=names, value=value, later=later))
            names[child.name] = shape
            # An error, a condition or a jump may replace the value.
            value = shape if child.when is None and child.on_error is None else "any"
        if op.output is not None:
            inner = replace(view, names=names, value=value)
            self._sees(step, op.output, inner)
            return self._shape(op.output, inner)
        return value

    async def _graph(self, step: FlowStep, op: spec.GraphStep, view: _View) -> Shape:
        names: dict[str, Shape] = {}
        steps = {child.name: child for child in op.steps}
        for name in op.order:
            before = {other_name: names[other_name] for other_name in op.after[name]}
            names[name] = await self.step(steps[name], replace(view, names=_merge_scopes(before, view.names)))
        inner = replace(view, names={**view.names, **names})
        self._sees(step, op.output, inner)
        return self._shape(op.output, inner)

    async def _find_card(self, step: FlowStep, field: str, key: str) -> Card:
        if key not in self._cards:
            try:
                self._cards[key] = (await self._registry.resolve(key, self._caller)).card
            except PorticoError as error:
                at = f"{step.at}.{field}"
                wrong = InvalidRequest(f"{at}: {error.message}", code=error.code, param=at)
                wrong.status, wrong.type, wrong.retry_after = error.status, error.type, error.retry_after
                raise wrong from error
        return self._cards[key]

    async def _model(self, step: FlowStep, field: str, name: str, capability: str) -> None:
        card = await self._find_card(step, field, name)
        if card.capabilities and capability not in card.capabilities:
            raise _wrong(
                step,
                field,
                f"is '{name}', which does not support '{capability}'; it supports "
                f"{', '.join(sorted(card.capabilities))}",
                "wrong_model",
            )

    async def _tool(self, step: FlowStep, op: spec.ToolStep, view: _View) -> None:
        card = await self._find_card(step, "tool", f"tool/{op.name}")
        self._wants(step, "arguments", op.arguments, view, "object")
        schema = card.input_schema or {}
        properties = schema.get("properties") or {}
        arguments: Any = None
        if isinstance(op.arguments, Constant):
            arguments = op.arguments.value
        elif isinstance(op.arguments, ObjectExpression):
            arguments = op.arguments.fields
        if not isinstance(arguments, Mapping):
            return
        for name in schema.get("required") or ():
            if name not in arguments:
                raise _wrong(
                    step,
                    "arguments",
                    f"lacks '{name}', which the tool '{op.name}' requires",
                    "missing_argument",
                )
        if schema.get("additionalProperties") is False:
            for name in arguments:
                if name not in properties:
                    raise _wrong(
                        step,
                        f"arguments.{name}",
                        f"is not an argument of the tool '{op.name}'.{nearest(name, properties)}",
                        "unknown_argument",
                    )


def _merge_scopes(inner: dict[str, Shape], outer: Mapping[str, Shape]) -> Mapping[str, Shape]:
    """Return the names visible in an inner scope: its own and those of the outer scope, which are not copied."""
    maps: list[Any] = outer.maps if isinstance(outer, ChainMap) else [outer]
    return ChainMap(inner, *maps)


_WORDS: Final[Mapping[Shape, str]] = {
    "text": "text",
    "list": "a list",
    "object": "an object",
    "number": "a number",
    "any": "anything",
}


def _of_value(value: Any) -> Shape:
    match value:
        case str():
            return "text"
        case list():
            return "list"
        case dict():
            return "object"
        case bool() | None:
            return "any"
        case int() | float():
            return "number"
    return "any"


def _of_schema(schema: Mapping[str, Any] | None) -> Shape:
    kind = (schema or {}).get("type")
    shapes: Mapping[Any, Shape] = {
        "string": "text",
        "array": "list",
        "object": "object",
        "number": "number",
        "integer": "number",
    }
    return shapes.get(kind, "any") if isinstance(kind, str) else "any"


def _wrong(step: FlowStep, field: str, reason: str, code: str, param: str | None = None) -> InvalidRequest:
    at = f"{step.at}.{field}" if field else step.at
    return InvalidRequest(
        f"{at} {reason}." if not reason.endswith(("?", ".")) else f"{at} {reason}",
        code=code,
        param=param or at,
    )
