"""Text with places for arguments: ``{name}`` is replaced, ``{{`` and ``}}`` are braces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from portico_server.core.errors import InvalidRequest
from portico_server.core.json_size import require_filled

_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")

Piece: TypeAlias = tuple[str, bool]
"""A stretch of text, or the name of an argument, and whether it is a name."""


def pieces(text: str, at: str) -> tuple[Piece, ...]:
    """The text cut at its placeholders. Only a bare name may stand between braces: nothing is looked up or formatted.

    Raises `InvalidRequest` that names ``at`` for a brace that belongs to nothing.
    """
    found: list[Piece] = []
    end = 0
    for match in _TOKEN.finditer(text):
        found.append((text[end : match.start()], False))
        end = match.end()
        if match[1]:
            found.append((match[1], True))
        elif len(match[0]) == 2:
            found.append((match[0][0], False))
        else:
            line = text.count("\n", 0, match.start()) + 1
            raise InvalidRequest(
                f"{at}, line {line}: a single '{match[0]}' belongs to no {{argument}}. Write two of them for the "
                "character itself.",
                code="invalid_template",
                param=at,
            )
    found.append((text[end:], False))
    return tuple(piece for piece in found if piece[0])


def fill(template: tuple[Piece, ...], values: Mapping[str, str]) -> str:
    """The text with a value at every placeholder; ``values`` has one for each name.

    Raises `InvalidRequest` if that is too long, before it is made.
    """
    pieces = [values[text] if is_name else text for text, is_name in template]
    require_filled(pieces)
    return "".join(pieces)
