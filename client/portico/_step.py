"""Building blocks for composing a flow: steps, references, templates. Standard library only."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from portico._keywords import UnknownKeyword, exact_methods
from portico._request import without_none
from portico.errors import InvalidRequest
from portico.functions import schema_of
from portico.spelling import nearest


class Reference:
    """A value that exists only when the flow runs. ``input.topic`` and ``output("outline")[0]`` select parts of a
    value.

    Write keys in brackets if they are not identifiers or are names of this class's methods: ``input["or_else"]``.

    Example::

        from portico import Client
        from portico.flow import input, llm, template

        greeting = llm("default", user=template("Greet {name}.", name=input.name))
        with Client() as client:
            print(client.run(greeting, {"name": "Ada"}))
    """

    __slots__ = ("_default", "_path")

    def __init__(self, path: str, default: Any = ...) -> None:
        self._path = path
        self._default = default

    def __getattr__(self, key: str) -> Reference:
        if key.startswith("__"):
            raise AttributeError(key)
        return Reference(f"{self._path}.{key}")

    def __getitem__(self, key: int | str) -> Reference:
        return Reference(f"{self._path}[{json.dumps(key)}]")

    def __iter__(self) -> Any:
        raise TypeError(
            f"{self!r} has no items yet: it is a value of a run. Use warp() to iterate over them."
        )

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self!r} is neither true nor false yet: it is a value of a run. Use branch() or switch()."
        )

    def or_else(self, default: Any) -> Reference:
        """Return a reference to the same value that yields ``default`` if the value is missing or its step was
        skipped.
        """
        return Reference(self._path, default)

    def to_json(self) -> dict[str, Any]:
        return (
            {"$ref": self._path} if self._default is ... else {"$ref": self._path, "$default": self._default}
        )

    def __repr__(self) -> str:
        return f"<{self._path}>"


class Argument:
    """A reference to an argument of the step by position: `portico.flow._0` is the first incoming value."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"_{self.number}"


@dataclass(frozen=True, slots=True)
class Template:
    """Text with ``{name}`` placeholders, and a value for each name."""

    text: str
    variables: Mapping[str, Any]


@exact_methods
@dataclass(frozen=True, slots=True)
class Step:
    """A step of a flow. Every method returns a new step; the original is unchanged.

    ``kind`` is the step's kind in the flow specification, ``fields`` are the fields of that kind, and ``options`` are
    the options that any step can have.

    Example::

        from portico import Client
        from portico.flow import llm

        step = llm("default", system="Be brief.").named("answer")
        with Client() as client:
            print(client.run(step, "Why does bread rise?"))
    """

    kind: str
    fields: Mapping[str, Any]
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[..., Any] | None = None
    args: tuple[Any, ...] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def _with(self, **options: Any) -> Step:
        return replace(self, options={**self.options, **options})

    def __enter__(self) -> Step:
        raise InvalidRequest(
            f"A {self.kind} cannot be opened with 'with': pass its steps as arguments, such as "
            "pipeline(draft=llm(…), checked=lambda text: text.strip())."
        )

    def __exit__(self, *_error: object) -> None:
        """Never called. Without this method, Python would raise a less helpful error than `__enter__` does."""

    def named(self, name: str) -> Step:
        """Name the step, so that other steps can refer to it."""
        return replace(self, name=name)

    def bind(self, *args: Any, **kwargs: Any) -> Step:
        """Bind arguments to values, `input`, `output("name")`, or `_0`.

        Which arguments exist depends on the step: a function has its parameters, a model the variables of its
        templates. A combinator accepts a ``dict(...)`` for each named step. Any other step accepts its fields.
        """
        for name, bound in (*enumerate(args, start=1), *kwargs.items()):
            if bound is builtins.input:
                raise InvalidRequest(
                    f"The argument {name!r} is bound to Python's function 'input'. To bind the flow's input, write "
                    "'from portico.flow import input' at the top of the file.",
                    param=str(name),
                )
        if self.function is not None:
            return replace(self, args=args or self.args, kwargs={**self.kwargs, **kwargs})
        if args:
            raise InvalidRequest(
                f"Only functions accept positional arguments; a {self.kind} step accepts keyword arguments."
            )
        if "steps" in self.fields:
            return self._bind_children(kwargs)
        if self.kind in ("llm", "emit", "approve", "agent"):
            return replace(self, kwargs={**self.kwargs, **kwargs})
        return replace(self, fields={**self.fields, **kwargs})

    def _bind_children(self, bindings: Mapping[str, Any]) -> Step:
        steps = dict(self.fields["steps"])
        for name, bound in bindings.items():
            if name not in steps:
                raise InvalidRequest(
                    f"There is no step '{name}' to bind; steps are {', '.join(steps)}.", param=name
                )
            if not isinstance(bound, Mapping):
                raise InvalidRequest(f"Bind '{name}' to dict(argument=…).", param=name)
            steps[name] = step_of(steps[name]).bind(**bound)
        return replace(self, fields={**self.fields, "steps": steps})

    def when(self, condition: Any) -> Step:
        """Run the step only if a condition is true: a function of the incoming value, or a value. Otherwise, the step
        is skipped.
        """
        return self._with(when=condition)

    def retry(
        self, times: int = 3, *, delay: float = 0.5, factor: float = 2.0, on: Sequence[str] = ()
    ) -> Step:
        """Retry the step on errors; ``on`` contains error codes or types (default: temporary errors)."""
        return self._with(retry={"times": times, "delay": delay, "factor": factor, "on": list(on)})

    def timeout(self, seconds: float) -> Step:
        """Stop the step after this many seconds."""
        return self._with(timeout=seconds)

    def cache(self, ttl: float = 86_400.0) -> Step:
        """Cache the step's output and return it for the same input for this many seconds."""
        return self._with(cache={"ttl": ttl})

    def on_error(self, value: Any = None, *, goto: str = "") -> Step:
        """Handle an error: return a value, or jump to a later step of the pipeline."""
        return self._with(on_error={"goto": goto} if goto else {"value": value})

    def save(self, name: str) -> Step:
        """Store the step's output in the enclosing loop's `state`, under ``name``."""
        return self._with(save=name)

    def stream(self, aloud: bool = True) -> Step:
        """Set whether the step's tokens are streamed as the flow's answer. By default, only those of the last step
        are.
        """
        return self._with(stream=aloud)

    def returns(self, kind: Any) -> Step:
        """Set the type or JSON schema with which the output must comply."""
        return self._with(output_schema=dict(kind) if isinstance(kind, Mapping) else schema_of(kind))


@runtime_checkable
class StepMaker(Protocol):
    """An object that can convert itself to a step, such as `portico.agent.Agent`."""

    def as_step(self) -> Step: ...


StepLike: TypeAlias = "Step | StepMaker | Callable[..., Any]"


def step_of(step_like: StepLike) -> Step:
    """Convert an object to a step: a step is returned unchanged, a function is wrapped."""
    if isinstance(step_like, Step):
        return step_like
    if isinstance(step_like, StepMaker):
        return step_like.as_step()
    if callable(step_like):
        return Step("code", {}, function=step_like)
    raise InvalidRequest(
        f"{step_like!r} is not a step. Steps are made by llm(), retrieve(), pipeline() and similar "
        "functions, or are functions."
    )


Join: TypeAlias = Literal["list", "dict", "sum", "text", "zip"]


def steps_of(steps: Sequence[StepLike], named_step_likes: Mapping[str, StepLike]) -> dict[str, StepLike]:
    """Return the steps, keyed by name: the given name, or the name of the step's function, or its kind and number.
    Raise `InvalidRequest` if two steps have the same name.
    """
    step_likes: dict[str, StepLike] = {}
    for number, step in enumerate(steps, 1):
        new_step = step_of(step)
        name = (
            new_step.name
            or _function_name(new_step, {*step_likes, *named_step_likes})
            or f"{new_step.kind}{number}"
        )
        if name in step_likes:
            raise InvalidRequest(f"Two steps are named '{name}'.", param=name)
        step_likes[name] = new_step
    for name, step in named_step_likes.items():
        if name in step_likes:
            raise InvalidRequest(f"Two steps are named '{name}'.", param=name)
        whatever: Any = step
        if not callable(whatever) and not isinstance(whatever, Step):
            hint = nearest(name, ("after", "collect", "concurrency", "join", "output", "separator"))
            raise UnknownKeyword(
                f"'{name}' is neither an argument nor a step: {whatever!r:.80}.{hint} Steps are made by "
                "llm(), retrieve(), pipeline() and similar functions, or are functions.",
                code="unknown_parameter",
                param=name,
            )
        step_likes[name] = step
    if not step_likes:
        raise InvalidRequest(
            "At least one step is required: pipeline(draft=llm(…), checked=…). Steps are arguments; they are "
            "not assigned within a 'with' block."
        )
    return step_likes


def _function_name(step: Step, taken_names: Set[str]) -> str:
    name = getattr(step.function, "__name__", "")
    return name if name.isascii() and name.isidentifier() and name not in taken_names else ""


def join_fields(
    steps: Sequence[StepLike],
    step_likes: Mapping[str, StepLike],
    join: Join,
    separator: str,
    concurrency: int,
    collect: bool,
) -> dict[str, Any]:
    """Return the fields of a combinator that joins the outputs of its steps."""
    return without_none(
        steps=steps_of(steps, step_likes),
        join=join if join != "list" else None,
        separator=separator if join == "text" else None,
        concurrency=concurrency or None,
        collect=collect or None,
    )


def format_of(kind: Any) -> Any:
    """Return the output format for a model, given a type, a schema or a keyword such as ``json``."""
    if kind is None or isinstance(kind, str):
        return kind
    if isinstance(kind, Mapping):
        names = ("text", "json", "yaml", "regex", "last")
        return dict(kind) if kind.get("type") in names else {"type": "json", "schema": dict(kind)}
    return {"type": "json", "schema": schema_of(kind)}


def identifier(name: str) -> str:
    """Return a valid step name."""
    clean_name = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in name
    )
    return clean_name[:64] if clean_name[:1].isalpha() or clean_name[:1] == "_" else f"_{clean_name}"[:64]
