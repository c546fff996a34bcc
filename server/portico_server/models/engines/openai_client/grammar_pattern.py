"""Regular expressions of JSON Schema, written as llama.cpp reads them.

llama.cpp turns a ``pattern`` into the grammar of a JSON string. It reads only a part of the syntax, accepts any string
where it cannot read an expression, and treats the characters of a text as the characters of its JSON form: ``.`` also
means the quotation mark that ends the string. Pure.

Source: https://json-schema.org/draft/2020-12/json-schema-core#section-6.4, and ECMA-262, section 22.2.1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Final, TypeAlias

import orjson

Ranges: TypeAlias = list[tuple[int, int]]
"""Sets of characters, each as its first and its last code."""

MAX_REPEATS: Final = 1_000
"""Maximum number in a quantifier. llama.cpp refuses grammars with many more repeats."""

MAX_SMALL_CLASS: Final = 256
"""Maximum number of characters in a class whose escaped characters are part of it."""

_ESCAPED: Final[Ranges] = [(0, 31), (34, 34), (92, 92)]
"""Characters that a JSON string contains only as an escape."""

_SURROGATES: Final = (0xD800, 0xDFFF)

_CLASSES: Final[dict[str, Ranges]] = {
    "d": [(48, 57)],
    "w": [(48, 57), (65, 90), (95, 95), (97, 122)],
    "s": [(9, 13), (32, 32), (160, 160), (0x2028, 0x2029)],
}

_LINE_ENDS: Final[Ranges] = [(10, 10), (13, 13), (0x2028, 0x2029)]

_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_QUANTIFIER: Final = re.compile(r"([*+?]|\{(\d{1,9})(?:,(\d{1,9})?)?\})\??")
_CODE: Final = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}")
_DIGIT: Final = re.compile("[0-9]")
_GROUP_NAME: Final = re.compile(r"\?(?::|<[A-Za-z_$][\w$]*>)")


class _UnreadableError(Exception):
    """The expression has something that a grammar cannot express."""


def grammar_pattern(pattern: str) -> str | None:
    """Return an expression that llama.cpp reads, for the JSON strings whose text matches ``pattern``.

    Return ``None`` if there is none, for example for a look-ahead. Where a text may have one of many characters, the
    expression has only those that JSON does not escape.
    """
    try:
        return f"^({_PatternReader(pattern).read()})$"
    except (_UnreadableError, RecursionError):
        return None


class _PatternReader:
    """Reads one expression from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._place = 0

    def read(self) -> str:
        """Return the whole expression. Where it has no anchor, other text may stand before or after."""
        any_text = f"{_class_of(_without([(0, sys.maxunicode)], _LINE_ENDS))}*"
        branches = []
        while True:
            start = "" if self._take("^") else any_text
            branch = start + self._sequence()
            branches.append(branch if self._take("$") else branch + any_text)
            if not self._take("|"):
                break
        if self._place < len(self._pattern):
            raise _UnreadableError
        return "|".join(branches)

    def _take(self, text: str) -> bool:
        is_there = self._pattern.startswith(text, self._place)
        self._place += len(text) if is_there else 0
        return is_there

    def _next(self) -> str:
        if self._place == len(self._pattern):
            raise _UnreadableError
        self._place += 1
        return self._pattern[self._place - 1]

    def _sequence(self) -> str:
        parts = []
        while self._place < len(self._pattern) and self._pattern[self._place] not in "|)$":
            atom, quantifier = self._atom(), self._quantifier()
            # llama.cpp repeats all of the text before a quantifier whose last character is written as a code.
            parts.append(
                f"({atom}){quantifier}" if quantifier and atom.startswith("\\") else atom + quantifier
            )
        return "".join(parts)

    def _quantifier(self) -> str:
        quantifier = _QUANTIFIER.match(self._pattern, self._place)
        if quantifier is None:
            return ""
        self._place = quantifier.end()
        if any(int(number) > MAX_REPEATS for number in quantifier.group(2, 3) if number):
            raise _UnreadableError
        return quantifier[1]

    def _atom(self) -> str:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return self._class()
        if character == ".":
            return _class_of(_without([(0, sys.maxunicode)], _LINE_ENDS))
        if character == "\\":
            return _class_of(self._escape())
        if character in "^*+?{":
            raise _UnreadableError
        return _class_of([(ord(character), ord(character))])

    def _group(self) -> str:
        if name := _GROUP_NAME.match(self._pattern, self._place):
            self._place = name.end()
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        if not self._take(")"):
            raise _UnreadableError
        return f"({'|'.join(branches)})"

    def _class(self) -> str:
        is_negated = self._take("^")
        ranges: Ranges = []
        while not self._take("]"):
            first = self._member()
            if self._pattern[self._place : self._place + 2] in ("-]", "-") or not self._take("-"):
                ranges += first
                continue
            last = self._member()
            if len(first) + len(last) != 2 or first[0][0] != first[0][1] or last[0][0] < first[0][0]:
                raise _UnreadableError
            ranges.append((first[0][0], last[0][1]))
        return _class_of(_without([(0, sys.maxunicode)], ranges) if is_negated else ranges)

    def _member(self) -> Ranges:
        character = self._next()
        if character == "\\":
            return [(8, 8)] if self._take("b") else self._escape()
        return [(ord(character), ord(character))]

    def _escape(self) -> Ranges:
        """Return the characters that an escape means; its backslash has been read."""
        character = self._next()
        if character in _CLASSES:
            return _CLASSES[character]
        if character.lower() in _CLASSES:
            return _without([(0, sys.maxunicode)], _CLASSES[character.lower()])
        if code := _CODE.match(self._pattern, self._place - 1):
            self._place = code.end()
            number = int(next(digits for digits in code.groups() if digits), 16)
        elif character in _CONTROLS and _DIGIT.match(self._pattern, self._place) is None:
            number = ord(_CONTROLS[character])
        elif character.isalnum():
            raise _UnreadableError
        else:
            number = ord(character)
        if number > sys.maxunicode or _SURROGATES[0] <= number <= _SURROGATES[1]:
            raise _UnreadableError
        return [(number, number)]


def _without(ranges: Ranges, excluded_ranges: Sequence[tuple[int, int]]) -> Ranges:
    """Return the characters of ``ranges`` that are in none of ``excluded_ranges``."""
    for low, high in excluded_ranges:
        ranges = [
            part
            for first, last in ranges
            for part in ((first, min(last, low - 1)), (max(first, high + 1), last))
            if part[0] <= part[1]
        ]
    return ranges


def _class_of(ranges: Ranges) -> str:
    """Return a class of the characters as they stand in a JSON string.

    Characters that JSON escapes are alternatives to a small class, and are left out of a large one.
    """
    members = _without(ranges, [*_ESCAPED, _SURROGATES])
    alternatives = []
    if len(members) == 1 and members[0][0] == members[0][1]:
        alternatives.append(_character(members[0][0]))
    elif members:
        alternatives.append(f"[{''.join(f'{_character(low)}-{_character(high)}' for low, high in members)}]")
    if sum(high - low + 1 for low, high in ranges) <= MAX_SMALL_CLASS:
        codes = [code for low, high in ranges for code in range(low, high + 1)]
        alternatives += [_json_escape(code) for code in dict.fromkeys(codes) if _is_escaped(code)]
    if not alternatives:
        raise _UnreadableError
    return alternatives[0] if len(alternatives) == 1 else f"({'|'.join(alternatives)})"


def _is_escaped(code: int) -> bool:
    return any(low <= code <= high for low, high in _ESCAPED)


def _json_escape(code: int) -> str:
    """Return the escape with which JSON writes a character."""
    escape = orjson.dumps(chr(code)).decode()[1:-1]
    return f"({''.join(_character(ord(character)) for character in escape)})"


def _character(number: int) -> str:
    character = chr(number)
    if character.isalnum() or (number > 126 and character.isprintable()):
        return character
    return f"\\x{number:02X}" if number < 256 else f"\\U{number:08X}"
