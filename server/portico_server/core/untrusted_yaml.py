"""Untrusted YAML: no aliases (because a few lines can expand to gigabytes), limits on depth and numbers, and only JSON
values.

Imports PyYAML only when it is needed.
"""

from __future__ import annotations

import json
from typing import Any, Final

from portico._document import explain

MAX_YAML_DEPTH: Final = 64
"""Maximum nesting depth of lists and mappings."""

MAX_YAML_LENGTH: Final = 256 * 2**10
"""Default maximum length of a document, in characters; parsing it takes a few tenths of a second. A caller that parses
in a thread may set another limit.
"""

MAX_NUMBER_LENGTH: Final = 100
"""Maximum length of a number, in characters: 1:59:59:… is a number in YAML, and the time to parse it grows
quadratically.
"""


class InvalidYaml(ValueError):
    """A text is not YAML, or exceeds the limits for untrusted input. Its message gives the reason in one line."""


def read_yaml(text: str, *, max_length: int = MAX_YAML_LENGTH, plain: bool = False) -> Any:
    """Return the single document in a text as a JSON value; dates and similar values stay text. Raises `InvalidYaml`.

    With ``plain``, tags and anchors are also rejected.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if len(text) > max_length:
        raise InvalidYaml(f"it is longer than {max_length:,} characters")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise InvalidYaml(f"aliases are not allowed, and {_place(event)} has an alias")
            if plain and (getattr(event, "tag", None) or getattr(event, "anchor", None)):
                raise InvalidYaml(
                    f"tags and anchors are not allowed, and {_place(event)} has a tag or an anchor"
                )
            if isinstance(event, yaml.ScalarEvent):
                _check_scalar(event)
            elif isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_YAML_DEPTH:
                    raise InvalidYaml(f"it is nested deeper than {MAX_YAML_DEPTH} levels")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
        value = yaml.load(text, Loader=loader)  # noqa: S506 - it is the safe loader, with or without C
        return json.loads(json.dumps(value, default=str))
    except yaml.YAMLError as error:
        raise InvalidYaml(explain(error)) from error
    except InvalidYaml:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        # An invalid date, or a key that JSON does not support.
        raise InvalidYaml(f"it has a value that JSON does not support: {_line(error)}") from error


def _check_scalar(event: Any) -> None:
    text = event.value
    if event.implicit[0] and len(text) > MAX_NUMBER_LENGTH and text[0] in "+-.0123456789" and " " not in text:
        raise InvalidYaml(
            f"{_place(event)} has a number of more than {MAX_NUMBER_LENGTH} characters; put text in quotes"
        )


def _place(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
