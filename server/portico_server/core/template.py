"""Text with placeholders for arguments: ``{name}`` is replaced; ``{{`` and ``}}`` are literal braces."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from portico_server.core.errors import InvalidRequest
from portico_server.core.json_size import MAX_FILLED, require_filled, too_long

MAX_TEMPLATE_CHARS: Final = 2**20
"""Maximum length, in characters, of a template that is searched for placeholders on each use: tens of milliseconds."""

MAX_PLACES: Final = 20_000
"""Maximum number of placeholders replaced in a template: milliseconds."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")

Piece: TypeAlias = tuple[str, bool]
"""A piece of a template: (text or argument name, whether it is an argument name)."""


def pieces(text: str, at: str) -> tuple[Piece, ...]:
    """Split the text at its placeholders. Braces may contain only a bare name: nothing is looked up or formatted.

    Raises `InvalidRequest` that names ``at`` for an unmatched brace.
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
                f"{at}, line {line}: unmatched '{match[0]}'. Enclose an {{argument}} in braces, or double "
                "the character for a literal brace.",
                code="invalid_template",
                param=at,
            )
    found_pieces.append((text[end:], False))
    return tuple(piece for piece in found_pieces if piece[0])


def fill(template: tuple[Piece, ...], values: Mapping[str, str]) -> str:
    """Return the template with each placeholder replaced by its value; ``values`` must contain every name.

    If the text would be too long, raises `InvalidRequest` before building it.
    """
    pieces = [values[text] if is_name else text for text, is_name in template]
    require_filled(pieces)
    return "".join(pieces)


def substitute(pattern: re.Pattern[str], value: Callable[[re.Match[str]], str], template: str) -> str:
    """Return ``pattern.sub(value, template)``, safe for an untrusted template and untrusted values.

    Raises `InvalidRequest` if the template is too long or has too many placeholders. If the text would be too long,
    raises `InvalidRequest` before building it.
    """
    if len(template) > MAX_TEMPLATE_CHARS:
        raise InvalidRequest(
            f"The template has {len(template):,} characters; the maximum is {MAX_TEMPLATE_CHARS:,}.",
            code="value_too_large",
        )
    size, places = len(template), 0

    def count_place(match: re.Match[str]) -> str:
        nonlocal size, places
        text = value(match)
        size += len(text)
        places += 1
        if size > MAX_FILLED:
            raise too_long()
        if places > MAX_PLACES:
            raise InvalidRequest(
                f"The template has more than {MAX_PLACES:,} placeholders.", code="value_too_large"
            )
        return text

    return pattern.sub(count_place, template)
