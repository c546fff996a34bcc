"""The nesting of a program, counted before Python's parser reads the program."""

from __future__ import annotations

import io
import tokenize
from typing import Final

MAX_NESTING: Final = 400
"""Maximum number of tokens that can contain each other. The parser needs up to about a kilobyte of stack for each."""

_SEPARATORS: Final = frozenset({",", ";", ":", "="})
_UNCOUNTED: Final = frozenset({tokenize.STRING, tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE})


def is_shallow(code: str) -> bool:
    """Return whether Python's parser can read a program without overflowing the stack of a thread, and the program is
    complete. Blocks, up to a third of a second for the longest code.
    """
    depths, branches = [0], 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.string in ("(", "[", "{"):
                depths.append(0)
            elif token.string in (")", "]", "}") and len(depths) > 1:
                depths.pop()
            if token.string in _SEPARATORS or token.type == tokenize.NEWLINE:
                depths[-1] = 0
            elif token.type not in _UNCOUNTED:
                depths[-1] += 1
            branches += token.string == "elif"
            if max(sum(depths), branches) > MAX_NESTING:
                return False
    except (tokenize.TokenError, SyntaxError):
        return False
    return True
