"""What a run asks of somebody outside the daemon, and the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, Literal, TypeAlias

from portico_server.core.dataclass import dataclass

QuestionKind: TypeAlias = Literal["approval", "function", "input", "chat"]
"""Whether something may be done; a function that a client executes; something only a person knows; what the model that
the caller lends says.
"""

QuestionStatus: TypeAlias = Literal["pending", "answered", "expired", "cancelled"]


SERVED: Final = "tool/"
"""What the names of such questions begin with, and of no others."""


def function_name(function: str, owner: str | None) -> str:
    """What the questions of a served function are called, which no function of a single run can be.

    Those of a key's own function carry its id: nobody else's workers are given them, whatever they serve.
    """
    return f"{SERVED}{function}" if owner is None else f"{SERVED}{owner}/{function}"


MAX_WAIT_S = 3600.0
"""Seconds that a question waits unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class NewQuestion:
    """``name`` is the tool, function or step that asks; ``message`` is for a person.

    ``answer_schema`` is the JSON schema of `GivenAnswer.value`. ``key`` names the question within its run, so that a
    run which is taken up again after a crash does not ask twice; empty: a new question each time. ``limit`` is how
    many seconds it waits. ``served``: any worker of whoever serves the function may answer, so its ``name`` is of
    `function_name`.
    """

    kind: QuestionKind
    name: str
    message: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    answer_schema: Mapping[str, Any] | None = None
    key: str = ""
    limit: float = MAX_WAIT_S
    served: bool = False


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """``note`` is what the one who answered says about it; ``by`` the id of the key or the name of the worker."""

    accepted: bool
    value: Any = None
    note: str = ""
    by: str = ""
