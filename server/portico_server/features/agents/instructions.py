"""Instructions with variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from portico_server.core.errors import InvalidRequest
from portico_server.core.template import substitute
from portico_server.features.agents.spec import AgentSpec

_VARIABLE = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")


def fill_instructions(spec: AgentSpec, values: Mapping[str, Any]) -> str:
    """Return the instructions with each ``{name}`` replaced by the caller's value, or by the agent's default value.

    In an agent without variables, braces stay unchanged; with variables, ``{{`` and ``}}`` stand for braces. Raise
    `InvalidRequest` for a name without a value, or if the result is too long.
    """
    variables = {**spec.variables, **values}
    if not variables:
        return spec.instructions

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return match.group()[0]
        if name not in variables:
            raise InvalidRequest(
                f"The instructions of '{spec.name}' have the variable '{{{name}}}', which has no value.",
                code="missing_variable",
                param="variables",
            )
        text = variables[name] = str(variables[name])
        return text

    return substitute(_VARIABLE, replace, spec.instructions)
