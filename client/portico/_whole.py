"""The whole of a flow: its steps, and what belongs to all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from portico._fields import identifier
from portico._step import StepLike, step_of
from portico._types import Incoming
from portico._write import Writer
from portico.functions import schema_of

VERSION: Final = 1
"""The version of the specification that this SDK writes."""

Durability: TypeAlias = Literal["off", "normal", "full"]


@dataclass(frozen=True, slots=True)
class Flow:
    """A step with what belongs to the whole: see `flow`. ``functions`` are those that stay here, by name."""

    spec: Mapping[str, Any]
    functions: Mapping[str, Callable[..., Any]]
    reasons: Mapping[str, str]
    """For each function that stays: why."""

    @property
    def name(self) -> str:
        return str(self.spec["name"])


def flow(
    step: StepLike,
    *,
    name: str = "",
    title: str = "",
    description: str = "",
    input: Any = None,
    output: Any = None,
    durability: Durability = "off",
    timeout: float | None = None,
    redact: Sequence[str] = (),
) -> Flow:
    """The whole flow. ``input`` and ``output`` are types or JSON schemas; ``timeout`` counts seconds; ``redact`` names
    fields whose values are not recorded.

    ``durability``: ``normal`` keeps a journal, so that a run continues after the daemon was killed; ``full`` after a
    power cut as well.
    """
    root = step_of(step)
    called = name or root.name or root.kind
    writer = Writer()
    spec: dict[str, Any] = {"portico_flow": VERSION, "name": called}
    for key, given in (("title", title), ("description", description), ("timeout", timeout)):
        if given:
            spec[key] = given
    for key, kind in (("input_schema", input), ("output_schema", output)):
        if kind is not None:
            spec[key] = dict(kind) if isinstance(kind, Mapping) else schema_of(kind)
    if durability != "off":
        spec["durability"] = durability
    if redact:
        spec["redact"] = list(redact)
    spec["step"] = writer.step(root, root.name or identifier(called), Incoming(spec.get("input_schema", {})))
    return Flow(spec, writer.functions, writer.reasons)


def flow_of(given: Flow | StepLike | Mapping[str, Any]) -> Flow:
    """Whatever stands for a flow: a `Flow`, a step, or a specification as JSON."""
    if isinstance(given, Flow):
        return given
    if isinstance(given, Mapping):
        return Flow(given, {}, {})
    return flow(given)
