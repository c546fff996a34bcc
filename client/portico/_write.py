"""Converts steps to the JSON of a flow specification, and collects the functions that run in the client's process."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from portico._arguments import VALUE, by_name, call_fields
from portico._source import Bound, portable
from portico._step import Reference, Step, StepLike, Template, step_of
from portico._types import MANY, UNKNOWN, Incoming, clashes, join_outputs, output_of, words
from portico.errors import InvalidRequest
from portico.functions import Function

_VARIABLE = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class Writer:
    """Converts steps to JSON, and collects the functions that must run in this process."""

    def __init__(self) -> None:
        self.functions: dict[str, Callable[..., Any]] = {}
        self.reasons: dict[str, str] = {}
        self.near: dict[str, Callable[..., Any]] = {}
        self.tools: dict[str, Function] = {}
        self._last = UNKNOWN
        """What the innermost step most recently written passes on; the output of a warp is a list of it."""

    def step(self, step_like: StepLike, name: str, incoming: Incoming = UNKNOWN) -> dict[str, Any]:
        """Return the JSON of a step; ``name`` is its default name."""
        return self._step(step_like, name, incoming)[0]

    def _step(self, step_like: StepLike, name: str, incoming: Incoming) -> tuple[dict[str, Any], Incoming]:
        """Return the JSON of a step, and what it passes to the next step."""
        step = step_of(step_like)
        step_name = step.name or name
        head = {"name": step_name, "op": step.kind}
        options = {key: self._option(key, option) for key, option in step.options.items()}
        if step.function is not None:
            step_document = {**head, **self._function(step, step_name, incoming), **options}
            return step_document, output_of(step_document, incoming)
        if "steps" in step.fields:
            step_document, gives = self._steps(step, head, incoming)
        else:
            step_document = {**head, **self._fields(step, step_name, incoming)}
            gives = output_of(step_document, incoming)
            if step.kind == "warp":
                gives = Incoming({**MANY, "items": self._last.schema}, step_name, packed=True)
        step_document = {**step_document, **options}
        known_options = options.keys() & {"on_error", "when", "output_schema"}
        if known_options:
            plain = output_of(step_document, incoming)
            gives = Incoming(plain.schema, step_name, gives.packed)
        return step_document, gives

    def _function(self, step: Step, name: str, incoming: Incoming) -> dict[str, Any]:
        function = step.function
        assert function is not None
        arguments = call_fields(function, name, step.args, step.kwargs, incoming)
        source = portable(function) if step.kind == "code" else Bound("client() says so")
        if isinstance(source, Bound):
            # the function is called as a tool, and tools are called with named arguments
            arguments = by_name(function, arguments)
        step_document: dict[str, Any] = {}
        if isinstance(source, Bound):
            step_document = {"op": "client", "function": self._keep(function, name, source.reason)}
            if "limit" in step.fields:
                step_document["limit"] = step.fields["limit"]
        else:
            step_document = {"op": "code", "source": source.source}
        if arguments.args is not None:
            step_document["args"] = [self.expression(arg) for arg in arguments.args]
            if arguments.kwargs:
                step_document["kwargs"] = {
                    key: self.expression(item) for key, item in arguments.kwargs.items()
                }
        if arguments.returns and "output_schema" not in step.options:
            step_document["output_schema"] = arguments.returns
        return step_document

    def _keep(self, function: Callable[..., Any], name: str, reason: str) -> str:
        """Register a function that runs in this process, and return the name by which the daemon calls it."""
        label = getattr(function, "__name__", "") or name
        if not label.isidentifier() or self.functions.get(label, function) is not function:
            label = name
        number = 2
        while self.functions.get(label, function) is not function:
            label, number = f"{name}_{number}", number + 1
        self.functions[label] = function
        self.reasons[label] = reason
        return label

    def _fields(self, step: Step, name: str, incoming: Incoming) -> dict[str, Any]:
        step_document: dict[str, Any] = {}
        if step.kind == "llm":
            self._fillable(step, name, incoming)
        for key, field_value in step.fields.items():
            if field_value is None:
                continue
            match key:
                case "step" | "then" | "else" | "default" if isinstance(field_value, Step) or callable(
                    field_value
                ):
                    inner = self._into(step, name, incoming)
                    step_document[key], self._last = self._step(field_value, _inner(key), inner)
                case "cases":
                    step_document[key] = [
                        self._case(number, on, case_step, incoming)
                        for number, (on, case_step) in enumerate(field_value, 1)
                    ]
                case "condition" | "until" | "on":
                    step_document[key] = self.condition(field_value)
                case "system" | "user" | "message" | "text" if step.kwargs and isinstance(field_value, str):
                    step_document[key] = self._bind(field_value, step.kwargs)
                case "agent" if not isinstance(field_value, str):
                    step_document[key] = self._agent(field_value)
                case "intents" | "format" | "answer_schema" | "after" | "few_shot":
                    step_document[key] = field_value
                case _:
                    step_document[key] = self.expression(field_value)
        return step_document

    def _agent(self, agent: Any) -> dict[str, Any]:
        """Return the specification of an agent in the flow, and collect its functions, which run in this process."""
        spec = agent.specified("")
        self.near.update(spec.functions)
        for tool in spec.tools.values():
            if self.tools.setdefault(tool.name, tool).call is not tool.call:
                raise InvalidRequest(
                    f"Two functions of agents in the flow are named '{tool.name}'. Rename one: "
                    "Function.of(function, name=…).",
                    param=agent.name,
                )
        document: dict[str, Any] = spec.json
        return document

    def _into(self, step: Step, name: str, incoming: Incoming) -> Incoming:
        """Return the input of a step's inner step. Raises `InvalidRequest` if a warp does not receive a list."""
        if step.kind in ("branch", "switch", "subflow"):
            return incoming
        if step.kind == "warp" and step.fields.get("over") is None:
            if clashes(MANY, incoming.schema):
                raise InvalidRequest(
                    f"The step '{name}' iterates over a list, but {incoming.subject} provides "
                    f"{words(incoming.schema)}.",
                    code="type_clash",
                    param=name,
                )
            return Incoming(incoming.item(), incoming.source)
        return UNKNOWN

    def _bind(self, text: str, bound: Mapping[str, Any]) -> Any:
        """Return a text as a template with ``bound`` values; its other variables become keys of the input. Return the
        text unchanged if none of its variables is bound.
        """
        names = [name for name in _VARIABLE.findall(text) if name]
        if not any(name in bound for name in names):
            return text
        return self.expression(Template(text, {name: bound.get(name, VALUE[name]) for name in names}))

    def _fillable(self, step: Step, name: str, incoming: Incoming) -> None:
        """Raise `InvalidRequest` if the input is known to lack a variable of the model's templates, or if a binding is
        not used.
        """
        texts = [text for key in ("system", "user") if isinstance(text := step.fields.get(key), str)]
        variables = {variable for text in texts for variable in _VARIABLE.findall(text) if variable}
        for bound in step.kwargs:
            if bound not in variables:
                raise InvalidRequest(
                    f"No template of the step contains the variable '{{{bound}}}'.", param=bound
                )
        keys = incoming.schema.get("properties")
        for variable in sorted(variables - step.kwargs.keys()):
            if clashes({"type": "object"}, incoming.schema) or (keys is not None and variable not in keys):
                available_names = (
                    f"only {', '.join(keys) or 'nothing'}" if keys is not None else words(incoming.schema)
                )
                raise InvalidRequest(
                    f"The step '{name}' has the variable '{{{variable}}}', but {incoming.subject} provides "
                    f"{available_names}. Bind it, or double the braces to keep them as text.",
                    code="missing_variable",
                    param=name,
                )

    def _steps(self, step: Step, head: dict[str, Any], incoming: Incoming) -> tuple[dict[str, Any], Incoming]:
        """Return the JSON of a combinator with several steps, and what it passes to the next step."""
        steps: list[dict[str, Any]] = []
        outputs: list[Incoming] = []
        flowing = incoming
        for number, (name, child) in enumerate(step.fields["steps"].items()):
            if step.kind == "diverter":
                flowing = Incoming(incoming.item(number), incoming.source)
            step_document, gives = self._step(step_of(child).named(name), name, flowing)
            steps.append(step_document)
            outputs.append(gives)
            if step.kind == "pipeline":
                flowing = gives
        other_fields = self._fields(
            Step(step.kind, {key: item for key, item in step.fields.items() if key != "steps"}),
            head["name"],
            incoming,
        )
        document = {**head, "steps": steps, **other_fields}
        if step.kind == "pipeline":
            return document, outputs[-1]
        if step.kind in ("parallel", "diverter"):
            return document, join_outputs(document, outputs)
        return document, Incoming({}, head["name"])

    def _case(self, number: int, on: Any, step_like: StepLike, incoming: Incoming) -> dict[str, Any]:
        case_name = on if isinstance(on, str) and _NAME.fullmatch(on) else f"case{number}"
        step = self.step(step_like, step_of(step_like).name or case_name, incoming)
        if callable(on) and not isinstance(on, Reference):
            return {"when": self.condition(on), "step": step}
        return {"equals": self.expression(on), "step": step}

    def _option(self, key: str, option: Any) -> Any:
        if key == "when":
            return self.condition(option)
        if key == "on_error" and "value" in option:
            return {"value": self.expression(option["value"])}
        return option

    def condition(self, value: Any) -> Any:
        """Return the JSON of a condition: a function as code, anything else as an expression. Raise `InvalidRequest`
        if the function cannot run in the daemon.
        """
        if isinstance(value, Reference) or not callable(value):
            return self.expression(value)
        source = portable(value)
        if isinstance(source, Bound):
            raise InvalidRequest(
                f"{subject_of(value)} is a condition and must run in the daemon, but {source.reason}. Move the "
                "work that needs this process to an earlier step."
            )
        return {"$code": source.source}

    def expression(self, value: Any) -> Any:
        """Convert a value that may contain references to JSON."""
        match value:
            case Reference():
                return value.to_json()
            case Template():
                return {
                    "$template": value.text,
                    "$with": {name: self.expression(part) for name, part in value.variables.items()},
                }
            case Mapping():
                if set(value) == {"$spread"}:
                    return {"$spread": self.expression(value["$spread"])}
                fields = {str(name): self.expression(part) for name, part in value.items()}
                return {"$literal": fields} if any(name.startswith("$") for name in fields) else fields
            case str() | None | bool() | int() | float():
                return value
            case list() | tuple():
                return [self.expression(part) for part in value]
        raise InvalidRequest(f"{value!r} cannot be sent: it is neither a JSON value nor a reference.")


def _inner(key: str) -> str:
    return {"then": "then", "else": "otherwise", "default": "default"}.get(key, "step")


def subject_of(function: Callable[..., Any]) -> str:
    """Return the name of a function in words that can begin a sentence."""
    name = getattr(function, "__qualname__", "")
    return "The lambda" if "<lambda>" in name else f"The function '{name or function!r}'"
