"""Checks of the code and schemas in a flow before any step runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from portico_server.core.errors import InvalidRequest
from portico_server.core.interfaces import Evaluator, require_code
from portico_server.core.principal import Principal
from portico_server.features.flows import spec
from portico_server.features.flows.expression import CodeExpression
from portico_server.features.flows.spec import FlowSpec, FlowStep
from portico_server.features.flows.tree import every, expressions


async def check_code(flow: FlowSpec, evaluator: Evaluator, caller: Principal) -> None:
    """Raise `InvalidRequest` for an invalid JSON schema, or for code that the sandbox cannot run.

    Raise `Forbidden` if ``caller`` may not run code.
    """
    _are_schemas(flow)
    for step in every(flow.step):
        for expression in expressions(step):
            if isinstance(expression, CodeExpression):
                require_code(caller, expression.at)
                await _runs(step, expression, evaluator)


def _schemas(flow: FlowSpec) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    """Yield the locations and contents of all JSON schemas in a flow."""
    yield "flow.input_schema", flow.input_schema
    yield "flow.output_schema", flow.output_schema
    for step in every(flow.step):
        yield f"{step.at}.output_schema", step.output_schema
        if isinstance(step.op, spec.LlmStep):
            yield f"{step.at}.format.schema", step.op.format.schema
        if isinstance(step.op, spec.ApproveStep):
            yield f"{step.at}.answer_schema", step.op.answer_schema


def _are_schemas(flow: FlowSpec) -> None:
    seen_schemas: set[str] = set()
    for at, schema in _schemas(flow):
        if schema is None or repr(schema) in seen_schemas:
            continue
        from portico_server.core.json_schema import require_schema

        require_schema(flow.name, schema, at)
        seen_schemas.add(repr(schema))


async def _runs(step: FlowStep, code: CodeExpression, evaluator: Evaluator) -> None:
    """Check that the sandbox can run a function, as far as possible without calling it."""
    try:
        await evaluator.check(code.source)
    except InvalidRequest as error:
        reason = error.message.strip().rpartition("\n")[2]
        raise InvalidRequest(
            f"{code.at}: the sandbox cannot run the function of the step '{step.name}': {reason}",
            code="invalid_code",
            param=code.at,
        ) from error
