"""YAML from outside: no aliases (a few lines of them stand for gigabytes), limited depth and numbers, as JSON has it.

Imports nothing of PyYAML before it is needed.
"""

from __future__ import annotations

import json
from typing import Any, Final

from portico._document import explain

MAX_YAML_DEPTH: Final = 64
"""Lists and mappings within each other."""

MAX_YAML_LENGTH: Final = 256 * 2**10
"""Characters of a document, unless who reads it in a thread says otherwise: some tenths of a second."""

MAX_NUMBER_LENGTH: Final = 100
"""Characters of a number: 1:59:59:… is one in YAML, and takes a time that grows with the square of its length."""


class InvalidYaml(ValueError):
    """A text is not YAML, or more than is taken from outside. Its text says why, in one line."""


def read_yaml(text: str, *, max_length: int = MAX_YAML_LENGTH, plain: bool = False) -> Any:
    """The one document in a text, as a JSON value: dates and their like are text. Raises `InvalidYaml`.

    ``plain``: tags and anchors are not taken either.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if len(text) > max_length:
        raise InvalidYaml(f"it is longer than {max_length:,} characters")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise InvalidYaml(f"aliases are not taken, and {_place(event)} has one")
            if plain and (getattr(event, "tag", None) or getattr(event, "anchor", None)):
                raise InvalidYaml(f"tags and anchors are not taken, and {_place(event)} has one")
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
        # A date that is none, a key that JSON does not have.
        raise InvalidYaml(f"it has a value that JSON does not have: {_line(error)}") from error


def _check_scalar(event: Any) -> None:
    text = event.value
    if event.implicit[0] and len(text) > MAX_NUMBER_LENGTH and text[0] in "+-.0123456789" and " " not in text:
        raise InvalidYaml(
            f"{_place(event)} has a number of more than {MAX_NUMBER_LENGTH} characters; put a text "
            "between quotes"
        )


def _place(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
