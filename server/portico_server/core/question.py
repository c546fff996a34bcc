"""Questions that a run asks a person or program outside the daemon, and their answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, Literal, TypeAlias

from portico_server.core.dataclass import dataclass

QuestionKind: TypeAlias = Literal["approval", "function", "input", "chat"]
"""The kind of question: an approval of an action, a function that a client executes, an input that only a person
knows, or a chat answer from a model that the caller provides.
"""

QuestionStatus: TypeAlias = Literal["pending", "answered", "expired", "cancelled"]


SERVED: Final = "tool/"
"""Prefix of the names of questions of served functions; no other question has it."""


def function_name(function: str, owner: str | None) -> str:
    """Return the name that questions of a served function have. No function of a single run can have this name.

    The name for a key's own function contains the key's id, so that no other key's workers receive the questions.
    """
    return f"{SERVED}{function}" if owner is None else f"{SERVED}{owner}/{function}"


MAX_WAIT_S = 3600.0
"""Default limit on the time that a question waits, in seconds."""


@dataclass(frozen=True, slots=True)
class NewQuestion:
    """A question to ask. ``name`` is the tool, function or step that asks; ``message`` is for a person.

    ``answer_schema`` is the JSON schema of `GivenAnswer.value`. ``key`` identifies the question within its run, so
    that a run resumed after a crash does not ask twice; if empty, each question is new. ``limit`` is the maximum
    number of seconds to wait. With ``served``, any worker of the function's owner may answer, and ``name`` must be a
    result of `function_name`.
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
    """An answer. ``note`` is the comment of the person who answered; ``by`` is the id of the key, or the name of the
    worker, that answered.
    """

    accepted: bool
    value: Any = None
    note: str = ""
    by: str = ""
