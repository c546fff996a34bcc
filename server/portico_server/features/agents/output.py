"""Output formats: the required format of an answer, and how its value is parsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from portico_server.core.errors import InvalidRequest
from portico_server.core.fields import MAX_STOPS
from portico_server.core.interfaces import Evaluator
from portico_server.features.agents.spec import MarkedOutput, Output
from portico_server.features.flows.format import formatted, response_format, unwrapped
from portico_server.features.flows.spec import OutputFormat


def with_stops(options: Mapping[str, Any], extra_stops: Sequence[str]) -> dict[str, Any]:
    """Return the options with additional stop sequences, up to the maximum number of stop sequences."""
    stops = options.get("stop") or []
    stops = [stops] if isinstance(stops, str) else list(stops)
    stops += [stop for stop in extra_stops if stop not in stops]
    return {**options, "stop": stops[:MAX_STOPS]} if stops else dict(options)


def options_for(
    name: str, outputs: Sequence[Output], options: Mapping[str, Any], *, is_constrained: bool = True
) -> dict[str, Any]:
    """Return the model's options with the options that the output formats need: stop sequences for end markers, or a
    schema that constrains the answer.
    """
    model_options = with_stops(
        options, [output.end for output in outputs if isinstance(output, MarkedOutput)]
    )
    schema = answer_schema(outputs)
    if schema is not None and is_constrained:
        model_options.setdefault("response_format", response_format(name, schema))
    return model_options


def answer_schema(outputs: Sequence[Output]) -> Mapping[str, Any] | None:
    """Return the schema that every answer must match, or ``None``."""
    if len(outputs) == 1 and isinstance(outputs[0], OutputFormat):
        return outputs[0].schema
    return None


async def parse_output(outputs: Sequence[Output], text: str, evaluator: Evaluator) -> tuple[Any, str]:
    """Return the value of the first format that matches (``None`` without formats), and the text without the format's
    markers.

    If no format matches, raise `InvalidRequest` with the code ``format_failed`` and the reason from the last format.
    """
    failure: InvalidRequest | None = None
    optional = all(isinstance(output, MarkedOutput) for output in outputs)
    for output in outputs:
        try:
            if isinstance(output, MarkedOutput):
                return await _read_markers(output, text, evaluator), text
            return await _format(output, text, evaluator)
        except InvalidRequest as error:
            if error.code != "format_failed":
                raise
            failure = error
    if outputs and optional:
        return {"tool_type": None, "thought": text, "action": None, "status": 0}, text
    if failure is not None:
        raise failure
    return None, text


async def _format(output: OutputFormat, text: str, evaluator: Evaluator) -> tuple[Any, str]:
    value = await formatted(output, text, evaluator)
    if output.schema is None:
        return value, text
    inner = unwrapped(output.schema, value)
    # Importing jsonschema takes a tenth of a second; the daemon starts without it.
    from portico_server.core.json_schema import JsonSchema

    fault = JsonSchema("the output", output.schema).fault(inner)
    if fault is not None:
        raise InvalidRequest(
            f"The answer does not match the required format: at {fault.path or 'the top'}, {fault.message}.",
            code="format_failed",
        )
    if inner is value:
        return value, inner if isinstance(inner, str) else text
    return inner, inner if isinstance(inner, str) else orjson.dumps(inner).decode()


async def _read_markers(output: MarkedOutput, text: str, evaluator: Evaluator) -> dict[str, Any]:
    """Parse the thought and the action. ``status`` is 1, or -1 with an ``error`` if the action is invalid."""
    thought_text, begin_mark, remainder = text.partition(output.begin)
    if not begin_mark:
        raise InvalidRequest(f"The answer does not contain {output.begin!r}.", code="format_failed")
    action: Any = remainder.partition(output.end)[0]
    action_document = {"tool_type": output.tool_type, "thought": thought_text, "action": action, "status": 1}
    try:
        if output.validate == "json":
            action_document["action"] = orjson.loads(action.strip().strip("`"))
        elif output.validate == "code":
            action_document["action"] = await evaluator.evaluate(output.code, [action], {})
    except orjson.JSONDecodeError as error:
        return {**action_document, "status": -1, "error": f"The action is not JSON: {error}."}
    except InvalidRequest as error:
        return {**action_document, "status": -1, "error": error.message}
    return action_document
