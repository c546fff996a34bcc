"""Redaction of data that must not be recorded: the values of certain fields, and texts that look like secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from typing import Any, Final

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.settings import comma_separated

REDACTED: Final = "[redacted]"

MIN_SECRET_CHARS: Final = 4
"""Minimum length of a field's value that is also redacted in other texts. Shorter values could occur in any text."""

MAX_REMEMBERED_VALUES: Final = 1_000
"""Maximum number of values that one run remembers."""


@dataclass(frozen=True, slots=True)
class RedactionRules:
    """Rules for redaction: ``names`` of fields (case-insensitive, with ``*`` as a wildcard) and a ``pattern`` for
    texts.
    """

    names: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None


NO_RULES: Final = RedactionRules()


def parse_rules(names: str, pattern: str) -> RedactionRules:
    """Parse the settings ``redact`` and ``redact_pattern``. Raise `InvalidRequest` for an invalid pattern."""
    try:
        compiled_pattern = re.compile(pattern) if pattern else None
    except re.error as error:
        raise InvalidRequest(
            f"redact_pattern is '{pattern}', which is not a regular expression: {error}.",
            param="redact_pattern",
        ) from error
    return RedactionRules(tuple(comma_separated(names)), compiled_pattern)


class Redaction:
    """The redaction of one run.

    The text of a named field is remembered and redacted wherever it occurs later in the run: in a prompt that includes
    it, in an answer that repeats it.
    """

    __slots__ = ("_field", "_known_secrets", "_names", "_pattern", "active")

    def __init__(self, redaction_rules: RedactionRules = NO_RULES) -> None:
        self._names: frozenset[str] = frozenset()
        self._field: re.Pattern[str] | None = None
        self._pattern = redaction_rules.pattern
        self._known_secrets: dict[str, None] = {}
        self.active = redaction_rules.pattern is not None
        """True if any redaction rule exists."""
        self.add(redaction_rules.names)

    def add(self, names: Iterable[str]) -> None:
        """Add names of fields that are redacted from now on."""
        new = frozenset(name.lower() for name in names) - self._names
        if new:
            self._names |= new
            self._field = re.compile("|".join(translate(name) for name in sorted(self._names)))
            self.active = True

    def of(self, value: Any) -> Any:
        """Return a JSON value without redacted data. If nothing in it is redacted, return the same object."""
        self._learn(value)
        return self._hide(value)

    def event(self, event_fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return an event as JSON. The event's own field names are never redacted as fields of a flow's values."""
        for value in event_fields.values():
            self._learn(value)
        return {name: item if name == "type" else self._hide(item) for name, item in event_fields.items()}

    def _hidden(self, name: Any) -> bool:
        return self._field is not None and self._field.match(str(name).lower()) is not None

    def _learn(self, value: Any) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                if self._hidden(name):
                    self.remember(item)
                else:
                    self._learn(item)
        elif isinstance(value, list | tuple):
            for item in value:
                self._learn(item)

    def remember(self, value: Any) -> None:
        """Remember all texts below a redacted field."""
        if isinstance(value, str):
            if (
                len(value) >= MIN_SECRET_CHARS
                and value != REDACTED
                and len(self._known_secrets) < MAX_REMEMBERED_VALUES
            ):
                self._known_secrets[value] = None
        elif isinstance(value, dict | list | tuple):
            for item in value.values() if isinstance(value, dict) else value:
                self.remember(item)

    def _hide(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            redacted_value = {
                name: REDACTED if self._hidden(name) and item is not None else self._hide(item)
                for name, item in value.items()
            }
            return (
                redacted_value
                if any(redacted_value[name] is not item for name, item in value.items())
                else value
            )
        if isinstance(value, list | tuple):
            items = [self._hide(item) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        return value

    def _text(self, text: str) -> str:
        for known_secret in sorted(self._known_secrets, key=len, reverse=True):
            if known_secret in text:
                text = text.replace(known_secret, REDACTED)
        if self._pattern is not None and self._pattern.search(text) is not None:
            text = self._pattern.sub(REDACTED, text)
        return text
