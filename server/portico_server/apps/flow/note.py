"""What is known of one step, other than its output."""

from __future__ import annotations

from typing import Any, Final

import orjson

from portico.wire import Usage
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest

NO_USAGE: Final = Usage()


@dataclass(slots=True)
class StepNote:
    """``path`` is the step's place in the run, without its own attempt; ``input``: what it was asked, for the trace,
    where that is not simply what flowed in; ``text``: its output as JSON.
    """

    path: str
    attempt: int = 1
    usage: Usage = NO_USAGE
    hit: bool = False
    spoke: bool = False
    """Whether it has sent text to the listener, so that it cannot begin again unseen."""
    input: Any = None
    text: bytes | None = None
    milliseconds: float = 0.0

    def keep(self, value: Any) -> Any:
        """The output as the JSON that the next step sees. Raises `InvalidRequest` if it is none."""
        self.text = as_json(value, self.path)
        return as_seen(value, self.text)


def as_json(value: Any, path: str) -> bytes:
    """The output of the step at ``path`` as JSON. Raises `InvalidRequest` if it is none."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InvalidRequest(
            f"The output is not JSON: {error}. Return text, numbers, lists and objects.",
            code="not_json",
            param=path,
        ) from error


def as_seen(value: Any, text: bytes) -> Any:
    """An output as the next step sees it: what its JSON says."""
    # Texts and whole numbers are what they were; a number may have been no JSON (NaN becomes null).
    return value if isinstance(value, str | int) or value is None else orjson.loads(text)
