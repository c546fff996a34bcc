"""Parses JSON into the types of `flows.spec`. Every error is reported with its path, before any step runs."""

from __future__ import annotations

import re
from typing import Any, Final, get_args

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.json_size import has_parts
from portico_server.features.flows.fields import FlowFields
from portico_server.features.flows.ops import OPS, format_of
from portico_server.features.flows.spec import (
    VERSION,
    CodeStep,
    Durability,
    ErrorPolicy,
    FlowSpec,
    FlowStep,
    RetryPolicy,
)
from portico_server.features.flows.tree import every, voices

__all__ = ["flow", "format_of"]

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
MAX_DEPTH: Final = 64
"""Maximum nesting depth of combinators."""

MAX_STEPS: Final = 20_000

MAX_PARTS: Final = 100_000
"""Maximum number of values in a specification, without values under ``$literal``. Each value is parsed as an
expression.
"""


def flow(value: Any) -> FlowSpec:
    """Parse a whole specification. Raise `InvalidRequest` with the location of the first error."""
    fields = FlowFields(value, "flow")
    version = fields.raw("portico_flow")
    if version is None:
        raise InvalidRequest(
            "The flow lacks 'portico_flow', the version of its specification. Add \"portico_flow\": "
            f"{VERSION}.",
            code="invalid_spec",
            param="flow.portico_flow",
        )
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise InvalidRequest(
            f"flow.portico_flow is {version!r}; it must be {VERSION}.", param="flow.portico_flow"
        )
    if version > VERSION:
        raise InvalidRequest(
            f"The flow uses version {version} of the specification; this daemon supports versions up to "
            f"{VERSION}. Update the daemon, or deploy with an older SDK.",
            code="unsupported_version",
            param="flow.portico_flow",
        )
    name = fields.text("name") or "flow"
    durability = fields.text("durability") or "off"
    if durability not in get_args(Durability):
        raise InvalidRequest(
            f"flow.durability is '{durability}'; it must be one of {', '.join(get_args(Durability))}.",
            param="flow.durability",
        )
    step = fields.raw("step")
    if has_parts(step, MAX_PARTS):
        raise InvalidRequest(
            f"flow.step has more than {MAX_PARTS:,} values. Put large values into the input, or under '$literal'.",
            code="too_many_values",
            param="flow.step",
        )
    root = _root(step)
    flow_spec = FlowSpec(
        name=name,
        title=fields.text("title"),
        description=fields.text("description"),
        input_schema=fields.mapping("input_schema"),
        output_schema=fields.mapping("output_schema"),
        durability=durability,  # type: ignore[arg-type]  # it is one of them
        timeout=fields.number("timeout", None, minimum=0.001),
        redact=fields.texts("redact"),
        step=root,
        voices=voices(root),
        code=next((step.at for step in every(root) if isinstance(step.op, CodeStep)), ""),
        source=value,
    )
    fields.check_unread()
    return flow_spec


def _root(value: Any) -> FlowStep:
    try:
        return _FlowReader().step(value, "flow.step", 1)
    except RecursionError:
        raise InvalidRequest(
            "Values in flow.step are nested too deeply. Put such a value into the input.",
            code="too_deep",
            param="flow.step",
        ) from None


class _FlowReader:
    """Parses the steps of a flow and counts them."""

    def __init__(self) -> None:
        self._count = 0
        self._depth = 0

    def step(self, value: Any, at: str, number: int) -> FlowStep:
        """Parse one step. ``number`` is its position among its siblings, counted from 1. A step without a name gets a
        name with this number.
        """
        self._count += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidRequest(
                f"{at} is nested more than {MAX_DEPTH} steps deep.", code="too_deep", param=at
            )
        if self._count > MAX_STEPS:
            raise InvalidRequest(
                f"A flow may have at most {MAX_STEPS:,} steps.", code="too_many_steps", param=at
            )
        fields = FlowFields(value, at)
        kind = fields.required_text("op", f"one of {', '.join(OPS)}")
        build = OPS.get(kind)
        if build is None:
            raise InvalidRequest(
                f"{at}.op is '{kind}', which is not a step type.{nearest(kind, OPS)}",
                code="unknown_op",
                param=f"{at}.op",
            )
        name = fields.text("name") or f"{kind}{number}"
        if not NAME.fullmatch(name):
            raise InvalidRequest(
                f"{at}.name is {name!r}; names must begin with a letter and continue with letters, digits, "
                "'_' and '-'.",
                code="invalid_name",
                param=f"{at}.name",
            )
        step = FlowStep(
            name=name,
            kind=kind,
            at=at,
            source=value,
            input=fields.expression("input"),
            when=fields.expression("when"),
            retry=_retry(fields),
            timeout=fields.number("timeout", None, minimum=0.001),
            cache=_cache(fields),
            on_error=_on_error(fields),
            save=fields.text("save"),
            stream=fields.flag("stream", None),
            output_schema=fields.mapping("output_schema"),
            op=build(self, fields),
        )
        fields.check_unread()
        self._depth -= 1
        return step

    def steps(self, fields: FlowFields) -> tuple[FlowStep, ...]:
        """Parse the ``steps`` of a combinator: at least one step, with unique names."""
        items = fields.items("steps")
        at = fields.path("steps")
        if not items:
            raise InvalidRequest(
                f"{fields.at} requires 'steps', a list with at least one step.", code="invalid_spec", param=at
            )
        flow_steps: list[FlowStep] = []
        seen_names: set[str] = set()
        for number, item in enumerate(items):
            step = self.step(item, f"{at}[{number}]", number + 1)
            if step.name in seen_names:
                raise InvalidRequest(
                    f"{step.at}: the name '{step.name}' is used twice in the same {fields.at.rpartition('.')[2]}.",
                    code="duplicate_name",
                    param=f"{step.at}.name",
                )
            seen_names.add(step.name)
            flow_steps.append(step)
        return tuple(flow_steps)

    def inner(self, fields: FlowFields, key: str, *, is_needed: bool = True) -> FlowStep | None:
        """Parse the single step in the field ``key``."""
        value = fields.raw(key)
        if value is None:
            if not is_needed:
                return None
            raise InvalidRequest(
                f"{fields.at} needs '{key}', a step.", code="invalid_spec", param=fields.path(key)
            )
        return self.step(value, fields.path(key), 1)


def _retry(fields: FlowFields) -> RetryPolicy | None:
    value = fields.raw("retry")
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"times": value}
    inner = FlowFields(value, fields.path("retry"))
    retry = RetryPolicy(
        times=inner.integer("times", 3, minimum=0, limit=100),
        delay=inner.number("delay", 0.5, maximum=3600) or 0.0,
        factor=inner.number("factor", 2.0, minimum=1, maximum=10) or 2.0,
        on=inner.texts("on"),
    )
    inner.check_unread()
    return retry


MAX_CACHE_S: Final = 30 * 86_400.0
"""Maximum time for which an output is cached, in seconds. A cached output belongs to no key, so only its age
removes it.
"""


def _cache(fields: FlowFields) -> float | None:
    """Return the lifetime of cached outputs, in seconds, at most `MAX_CACHE_S`. In the specification, ``true`` means a
    day.
    """
    value = fields.raw("cache")
    if value is None or value is False:
        return None
    if value is True:
        return 86_400.0
    inner = FlowFields(value, fields.path("cache"))
    ttl = inner.number("ttl", 86_400.0, minimum=1)
    inner.check_unread()
    return min(ttl or MAX_CACHE_S, MAX_CACHE_S)


def _on_error(fields: FlowFields) -> ErrorPolicy | None:
    at = fields.path("on_error")
    value = fields.raw("on_error")
    if value is None or value == "fail":
        return None
    inner = FlowFields(value, at)
    error_policy = ErrorPolicy(value=inner.expression("value"), goto=inner.text("goto"))
    inner.check_unread()
    if (error_policy.value is None) == (not error_policy.goto):
        raise InvalidRequest(f'{at} is \'fail\', {{"value": …}} or {{"goto": STEP}}.', param=at)
    return error_policy
