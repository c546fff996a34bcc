"""The fields of steps, from what `portico.flow` is given. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, Literal, TypeAlias

from portico._step import Step, StepLike, step_of
from portico.errors import InvalidRequest
from portico.functions import schema_of

Join: TypeAlias = Literal["list", "dict", "sum", "text", "zip"]


def steps_of(steps: Sequence[StepLike], named: Mapping[str, StepLike]) -> dict[str, StepLike]:
    """Steps by name: their own, that of their function, or their kind and number. Raises if one is used twice."""
    found: dict[str, StepLike] = {}
    for number, step in enumerate(steps, 1):
        made = step_of(step)
        name = made.name or _function_name(made, {*found, *named}) or f"{made.kind}{number}"
        if name in found:
            raise InvalidRequest(f"Two steps are named '{name}'.", param=name)
        found[name] = made
    for name, step in named.items():
        if name in found:
            raise InvalidRequest(f"Two steps are named '{name}'.", param=name)
        found[name] = step
    if not found:
        raise InvalidRequest("Give at least one step.")
    return found


def _function_name(step: Step, taken: Set[str]) -> str:
    name = getattr(step.function, "__name__", "")
    return name if name.isascii() and name.isidentifier() and name not in taken else ""


def joined(
    steps: Sequence[StepLike],
    named: Mapping[str, StepLike],
    join: Join,
    separator: str,
    concurrency: int,
    collect: bool,
) -> dict[str, Any]:
    """The fields of a combinator whose outputs are joined."""
    return given_only(
        steps=steps_of(steps, named),
        join=join if join != "list" else None,
        separator=separator if join == "text" else None,
        concurrency=concurrency or None,
        collect=collect or None,
    )


def given_only(**fields: Any) -> dict[str, Any]:
    """Those that are not ``None``."""
    return {name: given for name, given in fields.items() if given is not None}


def format_of(given: Any) -> Any:
    """The format of a model's answer, from a type, a schema or a word."""
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, Mapping):
        kinds = ("text", "json", "yaml", "regex", "last")
        return dict(given) if given.get("type") in kinds else {"type": "json", "schema": dict(given)}
    return {"type": "json", "schema": schema_of(given)}


def identifier(name: str) -> str:
    """A name that a step may have."""
    made = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in name
    )
    return made[:64] if made[:1].isalpha() or made[:1] == "_" else f"_{made}"[:64]
