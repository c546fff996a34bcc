"""Steps as the JSON of a specification, and the functions that stay with the client."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from portico._arguments import VALUE, by_name, call_fields
from portico._source import Bound, portable
from portico._step import Reference, Step, StepLike, Template, step_of
from portico._types import MANY, UNKNOWN, Incoming, clashes, joined, output_of, words
from portico.errors import InvalidRequest
from portico.functions import Function

_VARIABLE = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class Writer:
    """Turns steps into JSON, and keeps the functions that stay here."""

    def __init__(self) -> None:
        self.functions: dict[str, Callable[..., Any]] = {}
        self.reasons: dict[str, str] = {}
        self.near: dict[str, Callable[..., Any]] = {}
        self.tools: dict[str, Function] = {}
        self._last = UNKNOWN
        """What the step within the step that is being written gives."""

    def step(self, given: StepLike, name: str, incoming: Incoming = UNKNOWN) -> dict[str, Any]:
        """A step under ``name``."""
        return self._step(given, name, incoming)[0]

    def _step(self, given: StepLike, name: str, incoming: Incoming) -> tuple[dict[str, Any], Incoming]:
        """A step, and what it gives to the next one."""
        step = step_of(given)
        called = step.name or name
        head = {"name": called, "op": step.kind}
        options = {key: self._option(key, option) for key, option in step.options.items()}
        if step.function is not None:
            written = {**head, **self._function(step, called, incoming), **options}
            return written, output_of(written, incoming)
        if "steps" in step.fields:
            written, gives = self._steps(step, head, incoming)
        else:
            written = {**head, **self._fields(step, called, incoming)}
            gives = output_of(written, incoming)
            if step.kind == "warp":
                gives = Incoming({**MANY, "items": self._last.schema}, called, packed=True)
        written = {**written, **options}
        known = options.keys() & {"on_error", "when", "output_schema"}
        if known:
            plain = output_of(written, incoming)
            gives = Incoming(plain.schema, called, gives.packed)
        return written, gives

    def _function(self, step: Step, name: str, incoming: Incoming) -> dict[str, Any]:
        function = step.function
        assert function is not None
        given = call_fields(function, name, step.args, step.kwargs, incoming)
        found = portable(function) if step.kind == "code" else Bound("client() says so")
        if isinstance(found, Bound):
            given = by_name(function, given)  # as a tool, it is called by name
        written: dict[str, Any] = {}
        if isinstance(found, Bound):
            written = {"op": "client", "function": self._keep(function, name, found.reason)}
            if "limit" in step.fields:
                written["limit"] = step.fields["limit"]
        else:
            written = {"op": "code", "source": found.source}
        if given.args is not None:
            written["args"] = [self.expression(arg) for arg in given.args]
            if given.kwargs:
                written["kwargs"] = {key: self.expression(item) for key, item in given.kwargs.items()}
        if given.returns and "output_schema" not in step.options:
            written["output_schema"] = given.returns
        return written

    def _keep(self, function: Callable[..., Any], name: str, reason: str) -> str:
        """The name under which a function that stays is called back."""
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
        written: dict[str, Any] = {}
        if step.kind == "llm":
            self._fillable(step, name, incoming)
        for key, given in step.fields.items():
            if given is None:
                continue
            match key:
                case "step" | "then" | "else" | "default" if isinstance(given, Step) or callable(given):
                    inner = self._into(step, name, incoming)
                    written[key], self._last = self._step(given, _inner(key), inner)
                case "cases":
                    written[key] = [
                        self._case(number, on, what, incoming) for number, (on, what) in enumerate(given, 1)
                    ]
                case "condition" | "until" | "on":
                    written[key] = self.condition(given)
                case "system" | "user" | "message" | "text" if step.kwargs and isinstance(given, str):
                    written[key] = self._bound(given, step.kwargs)
                case "agent" if not isinstance(given, str):
                    written[key] = self._agent(given)
                case "intents" | "format" | "answer_schema" | "after" | "few_shot":
                    written[key] = given
                case _:
                    written[key] = self.expression(given)
        return written

    def _agent(self, agent: Any) -> dict[str, Any]:
        """The specification of an agent that stands in the flow; its functions stay here."""
        spec = agent.specified("")
        self.near.update(spec.functions)
        for tool in spec.tools.values():
            if self.tools.setdefault(tool.name, tool).call is not tool.call:
                raise InvalidRequest(
                    f"Two functions of agents in the flow are named '{tool.name}'. Name one differently: "
                    "Function.of(function, name=…).",
                    param=agent.name,
                )
        made: dict[str, Any] = spec.json
        return made

    def _into(self, step: Step, name: str, incoming: Incoming) -> Incoming:
        """What flows into the step within one of these. Raises `InvalidRequest` if a warp gets no list."""
        if step.kind in ("branch", "switch", "subflow"):
            return incoming
        if step.kind == "warp" and step.fields.get("over") is None:
            if clashes(MANY, incoming.schema):
                raise InvalidRequest(
                    f"The step '{name}' goes over a list, but {incoming.subject} gives {words(incoming.schema)}.",
                    code="type_clash",
                    param=name,
                )
            return Incoming(incoming.item(), incoming.source)
        return UNKNOWN

    def _bound(self, text: str, bound: Mapping[str, Any]) -> Any:
        """A template: what is bound, and keys of what flows in for the rest of its variables."""
        names = [name for name in _VARIABLE.findall(text) if name]
        if not any(name in bound for name in names):
            return text
        return self.expression(Template(text, {name: bound.get(name, VALUE[name]) for name in names}))

    def _fillable(self, step: Step, name: str, incoming: Incoming) -> None:
        """The variables of a model's templates exist, as far as is known, and all that is bound is used."""
        texts = [text for key in ("system", "user") if isinstance(text := step.fields.get(key), str)]
        used = {variable for text in texts for variable in _VARIABLE.findall(text) if variable}
        for bound in step.kwargs:
            if bound not in used:
                raise InvalidRequest(f"No template of the step has the variable '{{{bound}}}'.", param=bound)
        keys = incoming.schema.get("properties")
        for variable in sorted(used - step.kwargs.keys()):
            if clashes({"type": "object"}, incoming.schema) or (keys is not None and variable not in keys):
                given = f"only {', '.join(keys) or 'nothing'}" if keys is not None else words(incoming.schema)
                raise InvalidRequest(
                    f"The step '{name}' has the variable '{{{variable}}}', but {incoming.subject} gives {given}. "
                    "Bind it, or double the braces to have them in the text.",
                    code="missing_variable",
                    param=name,
                )

    def _steps(self, step: Step, head: dict[str, Any], incoming: Incoming) -> tuple[dict[str, Any], Incoming]:
        """A combinator of several steps, and what it gives to the next one."""
        made: list[dict[str, Any]] = []
        outputs: list[Incoming] = []
        flowing = incoming
        for number, (name, child) in enumerate(step.fields["steps"].items()):
            if step.kind == "diverter":
                flowing = Incoming(incoming.item(number), incoming.source)
            written, gives = self._step(step_of(child).named(name), name, flowing)
            made.append(written)
            outputs.append(gives)
            if step.kind == "pipeline":
                flowing = gives
        rest = self._fields(
            Step(step.kind, {key: item for key, item in step.fields.items() if key != "steps"}),
            head["name"],
            incoming,
        )
        whole = {**head, "steps": made, **rest}
        if step.kind == "pipeline":
            return whole, outputs[-1]
        if step.kind in ("parallel", "diverter"):
            return whole, joined(whole, outputs)
        return whole, Incoming({}, head["name"])

    def _case(self, number: int, on: Any, what: StepLike, incoming: Incoming) -> dict[str, Any]:
        named = on if isinstance(on, str) and _NAME.fullmatch(on) else f"case{number}"
        step = self.step(what, step_of(what).name or named, incoming)
        if callable(on) and not isinstance(on, Reference):
            return {"when": self.condition(on), "step": step}
        return {"equals": self.expression(on), "step": step}

    def _option(self, key: str, given: Any) -> Any:
        if key == "when":
            return self.condition(given)
        if key == "on_error" and "value" in given:
            return {"value": self.expression(given["value"])}
        return given

    def condition(self, given: Any) -> Any:
        """A function as code, anything else as an expression."""
        if isinstance(given, Reference) or not callable(given):
            return self.expression(given)
        found = portable(given)
        if isinstance(found, Bound):
            raise InvalidRequest(
                f"{called(given)} is a condition and must run in the daemon, but {found.reason}. "
                "Do what needs this process in a step before it."
            )
        return {"$code": found.source}

    def expression(self, given: Any) -> Any:
        """A value with references in it, as JSON."""
        match given:
            case Reference():
                return given.to_json()
            case Template():
                return {
                    "$template": given.text,
                    "$with": {name: self.expression(part) for name, part in given.variables.items()},
                }
            case Mapping():
                if set(given) == {"$spread"}:
                    return {"$spread": self.expression(given["$spread"])}
                made = {str(name): self.expression(part) for name, part in given.items()}
                return {"$literal": made} if any(name.startswith("$") for name in made) else made
            case str() | None | bool() | int() | float():
                return given
            case list() | tuple():
                return [self.expression(part) for part in given]
        raise InvalidRequest(f"{given!r} cannot travel: it is no JSON value and no reference.")


def _inner(key: str) -> str:
    return {"then": "then", "else": "otherwise", "default": "default"}.get(key, "step")


def called(function: Callable[..., Any]) -> str:
    """A function as it stands at the beginning of a sentence."""
    name = getattr(function, "__qualname__", "")
    return "The lambda" if "<lambda>" in name else f"The function '{name or function!r}'"
