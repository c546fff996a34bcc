"""Text with places for arguments: ``{name}`` is replaced, ``{{`` and ``}}`` are braces."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from portico_server.core.errors import InvalidRequest
from portico_server.core.json_size import MAX_FILLED, require_filled, too_long

MAX_TEMPLATE_CHARS: Final = 2**20
"""Characters of a template that is searched for its places each time it is filled: tens of milliseconds."""

MAX_PLACES: Final = 20_000
"""Places of one that are filled: milliseconds."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")

Piece: TypeAlias = tuple[str, bool]
"""A stretch of text, or the name of an argument, and whether it is a name."""


def pieces(text: str, at: str) -> tuple[Piece, ...]:
    """The text cut at its placeholders. Only a bare name may stand between braces: nothing is looked up or formatted.

    Raises `InvalidRequest` that names ``at`` for a brace that belongs to nothing.
    """
    found_pieces: list[Piece] = []
    end = 0
    for match in _TOKEN.finditer(text):
        found_pieces.append((text[end : match.start()], False))
        end = match.end()
        if match[1]:
            found_pieces.append((match[1], True))
        elif len(match[0]) == 2:
            found_pieces.append((match[0][0], False))
        else:
            line = text.count("\n", 0, match.start()) + 1
            raise InvalidRequest(
                f"{at}, line {line}: a single '{match[0]}' belongs to no {{argument}}. Write two of them for the "
                "character itself.",
                code="invalid_template",
                param=at,
            )
    found_pieces.append((text[end:], False))
    return tuple(piece for piece in found_pieces if piece[0])


def fill(template: tuple[Piece, ...], values: Mapping[str, str]) -> str:
    """The text with a value at every placeholder; ``values`` has one for each name.

    Raises `InvalidRequest` if that is too long, before it is made.
    """
    pieces = [values[text] if is_name else text for text, is_name in template]
    require_filled(pieces)
    return "".join(pieces)


def substitute(pattern: re.Pattern[str], value: Callable[[re.Match[str]], str], template: str) -> str:
    """``pattern.sub(value, template)`` for a template or values that are not ours.

    Raises `InvalidRequest` if the template is too long or has too many places, and if the text would be too long,
    before it is made.
    """
    if len(template) > MAX_TEMPLATE_CHARS:
        raise InvalidRequest(
            f"The template has {len(template):,} characters; at most {MAX_TEMPLATE_CHARS:,} are allowed.",
            code="value_too_large",
        )
    size, places = len(template), 0

    def counted(match: re.Match[str]) -> str:
        nonlocal size, places
        text = value(match)
        size += len(text)
        places += 1
        if size > MAX_FILLED:
            raise too_long()
        if places > MAX_PLACES:
            raise InvalidRequest(
                f"The template has more than {MAX_PLACES:,} places to fill.", code="value_too_large"
            )
        return text

    return pattern.sub(counted, template)
