"""The details of a step that are recorded in addition to its output."""

from __future__ import annotations

from typing import Any, Final

import orjson

from portico.wire import Usage
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest

NO_USAGE: Final = Usage()


@dataclass(slots=True)
class StepNote:
    """Details of one step. ``path`` is the step's place in the run, without the number of its attempt.

    ``input`` is the request that the step made, if it differs from the step's input; it is recorded for the trace.
    ``text`` is the step's output as JSON.
    """

    path: str
    attempt: int = 1
    usage: Usage = NO_USAGE
    hit: bool = False
    spoke: bool = False
    """True if the step has sent text to the listener. It must not be retried then, because the listener would see both
    texts.
    """
    input: Any = None
    text: bytes | None = None
    milliseconds: float = 0.0

    def keep(self, value: Any) -> Any:
        """Record the output, and return it as the JSON value that the next step receives. Raise `InvalidRequest` if it
        is not JSON.
        """
        self.text = as_json(value, self.path)
        return as_seen(value, self.text)


def as_json(value: Any, path: str) -> bytes:
    """Return the output of the step at ``path`` as JSON. Raise `InvalidRequest` if it is not JSON."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InvalidRequest(
            f"The output is not valid JSON: {error}. Return text, numbers, lists and objects.",
            code="not_json",
            param=path,
        ) from error


def as_seen(value: Any, text: bytes) -> Any:
    """Return an output as the next step receives it, after a conversion to JSON and back."""
    # The conversion does not change texts and whole numbers. It changes other numbers that are not valid JSON
    # (NaN becomes null).
    return value if isinstance(value, str | int) or value is None else orjson.loads(text)
