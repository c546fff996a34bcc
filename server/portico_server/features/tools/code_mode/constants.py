"""The values that the author of a program wrote into its code."""

from __future__ import annotations

import io
import tokenize
from ast import literal_eval
from collections.abc import Mapping
from typing import Any

from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Constants:
    """The text and number literals of a program, and its names, which arguments can have as keys."""

    values: frozenset[Any]
    names: frozenset[str]

    @classmethod
    def of(cls, code: str) -> Constants:
        """Read the literals of a program. Blocks, up to a third of a second for the longest code."""
        values: set[Any] = set()
        names: set[str] = set()
        texts: list[str] = []
        # Python's parser can overflow the stack of the process, so only its tokenizer reads the code.
        try:
            for token in tokenize.generate_tokens(io.StringIO(code).readline):
                value = _value(token) if token.type in (tokenize.STRING, tokenize.NUMBER) else None
                if value is not None:
                    values.add(value)
                if isinstance(value, str):
                    texts.append(value)
                elif token.type not in (tokenize.NL, tokenize.COMMENT):
                    values.add("".join(texts))  # Python joins adjacent texts
                    texts.clear()
                if token.type == tokenize.NAME:
                    names.add(token.string)
        except (tokenize.TokenError, SyntaxError):
            pass  # the program fails as well
        return cls(frozenset(values), frozenset(names))

    def contain(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether each value in the arguments is a literal of the program."""
        stack: list[Any] = [arguments]
        while stack:
            match stack.pop():
                case dict() as fields:
                    if not all(key in self.names or key in self.values for key in fields):
                        return False
                    stack += fields.values()
                case list() as items:
                    stack += items
                case None | bool():
                    pass
                case int() | float() as number if number < 0:
                    stack.append(-number)
                case value if value not in self.values:
                    return False
        return True


def _value(token: tokenize.TokenInfo) -> Any:
    """Return the value of a text or number; ``None`` for bytes and for a text with expressions."""
    try:
        value = literal_eval(token.string)
    except (SyntaxError, ValueError):
        return None
    return value if isinstance(value, str | int | float) else None
