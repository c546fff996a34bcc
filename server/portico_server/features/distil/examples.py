"""Training examples from stored chats: deduplicated, without personal data, and with a part held back. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from hashlib import blake2b
from typing import Any, Final

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.core.detectors import find, mask
from portico_server.core.errors import InvalidRequest
from portico_server.db.chats import ChatRow
from portico_server.features.guards.detectors import GROUPS

MIN_EXAMPLES: Final = 50
"""Minimum number of different calls from which a model can learn."""

HELD_BACK_SHARE: Final = 0.3
"""Share of the calls that are not trained on: one half chooses the confidence, the other half measures it."""

MAX_HELD_BACK_CALLS: Final = 400
"""Maximum number of calls held back, because the small model answers each of them once."""

MAX_SAME_ANSWER_SHARE: Final = 0.9
"""Maximum share of calls with the same answer. A model that always gives this answer would seem good."""

_PRIVATE: Final = (*GROUPS["pii"], *GROUPS["secrets"])
_LABELS: Final = {detector.kind: detector.label for detector in _PRIVATE}


@dataclass(frozen=True, slots=True)
class TeacherCall:
    """A call that the larger model has answered. ``response_format`` is the one that the caller requested."""

    messages: tuple[Mapping[str, Any], ...]
    answer: str
    response_format: Mapping[str, Any] | None = None

    def example(self) -> dict[str, Any]:
        """Return the call as a training example."""
        return {"messages": [*self.messages, {"role": "assistant", "content": self.answer}]}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TeacherCalls:
    """The calls to train on, and the calls held back. ``omitted`` chats occur twice, or cannot be used."""

    training: Sequence[TeacherCall]
    held_back: Sequence[TeacherCall]
    omitted: int


def collect(alias: str, rows: Iterable[ChatRow], students: Collection[str] = ()) -> TeacherCalls:
    """Return the calls in stored chats, oldest first; the latest of equal calls counts. Answers of ``students``, the
    earlier small models of the alias, are omitted.

    Raises `InvalidRequest` if a model could not learn from them.
    """
    count = 0
    calls: dict[bytes, TeacherCall] = {}
    for row in rows:
        count += 1
        call = _read(row, students)
        if call is not None:
            calls[_key(call)] = call
    if len(calls) < MIN_EXAMPLES:
        raise InvalidRequest(
            f"'{alias}' has {len(calls)} different stored chats with a text answer, of {count}; a model needs at "
            f"least {MIN_EXAMPLES}. Send requests to '{alias}' with 'store': true.",
            code="too_few_examples",
            param="alias",
        )
    answer, same_count = Counter(call.answer for call in calls.values()).most_common(1)[0]
    if same_count > MAX_SAME_ANSWER_SHARE * len(calls):
        raise InvalidRequest(
            f"{same_count} of the {len(calls)} stored chats of '{alias}' have the same answer, "
            f"'{answer[:80]}', so a model would learn only this answer. Store chats with other answers too.",
            code="one_sided_examples",
            param="alias",
        )
    # A hash chooses the calls to hold back, so that a repeated collection holds back the same calls.
    keys = sorted(calls, key=lambda key: blake2b(key, digest_size=8).digest())
    held_back_count = min(round(HELD_BACK_SHARE * len(keys)), MAX_HELD_BACK_CALLS)
    return TeacherCalls(
        [calls[key] for key in keys[held_back_count:]],
        [calls[key] for key in keys[:held_back_count]],
        count - len(calls),
    )


def _key(call: TeacherCall) -> bytes:
    """Return a key that calls share if they differ only in case and white space."""
    return orjson.dumps([(message["role"], message["content"].lower().split()) for message in call.messages])


def _read(row: ChatRow, students: Collection[str]) -> TeacherCall | None:
    """Return the call of a stored chat; ``None`` if it is not a plain question with a text answer."""
    document = orjson.loads(row.document)
    choices: list[Any] = document.get("choices") or []
    message = choices[0]["message"] if len(choices) == 1 else {}
    answer = message.get("content")
    if document.get("model") in students:
        return None
    messages = orjson.loads(row.messages)
    if not isinstance(answer, str) or not answer.strip() or message.get("tool_calls"):
        return None
    if choices[0].get("finish_reason") not in (None, "stop"):
        return None
    texts: list[tuple[Any, Any]] = [(message.get("role"), message.get("content")) for message in messages]
    if not all(
        role in ("system", "developer", "user", "assistant") and isinstance(text, str) for role, text in texts
    ):
        return None
    response_format = document.get("response_format")
    return TeacherCall(
        tuple({"role": role, "content": without_private(text)} for role, text in texts),
        without_private(answer).strip(),
        response_format if isinstance(response_format, Mapping) else None,
    )


def without_private(text: str) -> str:
    """Return a text with personal data and secrets replaced by labels such as ``[EMAIL]``."""
    return mask(text, find(text, _PRIVATE), _LABELS.__getitem__)
