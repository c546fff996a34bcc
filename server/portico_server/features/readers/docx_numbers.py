"""The numbers of list items, clauses and headings in Word, which a document computes from its styles: 4., 2.1, (c)."""

from __future__ import annotations

import re
from typing import Any, Final

from docx.oxml.ns import qn

from portico_server.core.words import whole_number
from portico_server.features.readers.list_numbers import WORD_NUMBERS, decimal

MAX_LEVELS: Final = 9
"""Number of levels of a list in Word."""

MAX_STYLE_DEPTH: Final = 20
"""Maximum number of styles that are based on one another."""

_PROPERTIES: Final = qn("w:pPr")
_STYLE: Final = qn("w:pStyle")
_NUMBERS: Final = qn("w:numPr")
_VALUE: Final = qn("w:val")
_BULLET: Final = "-"
_REFERENCE = re.compile(r"%([1-9])")


class ItemNumbers:
    """Counts the numbered paragraphs of a document, which must be asked for in their order.

    ``numbering`` and ``styles`` are the elements of these parts of the document; ``numbering`` is ``None`` without
    lists. Source: ECMA-376, part 1, 17.9.
    """

    def __init__(self, numbering: Any, styles: Any) -> None:
        self._styles = {style.get(qn("w:styleId")): style for style in styles.iter(qn("w:style"))}
        self._lists: dict[str, _List] = {}
        self._places_by_style: dict[str | None, tuple[str, int | None]] = {}
        if numbering is not None:
            self._read_lists(numbering)

    def label(self, paragraph: Any) -> str:
        """Return the number of a paragraph as it is shown, ``-`` for a bullet, "" for a paragraph without number."""
        list_id, level = self._place(paragraph)
        found_list = self._lists.get(list_id)
        return "" if found_list is None else found_list.next_label(min(level, MAX_LEVELS - 1))

    def _read_lists(self, numbering: Any) -> None:
        definitions = {node.get(qn("w:abstractNumId")): node for node in numbering.iter(qn("w:abstractNum"))}
        definitions_by_style = {
            _value(node, qn("w:styleLink")): node
            for node in definitions.values()
            if _value(node, qn("w:styleLink")) is not None
        }
        counters: dict[Any, list[int | None]] = {}
        for node in numbering.iter(qn("w:num")):
            definition = definitions.get(_value(node, qn("w:abstractNumId")))
            if definition is None:
                continue
            definition = definitions_by_style.get(_value(definition, qn("w:numStyleLink")), definition)
            counter = counters.setdefault(definition, [None] * MAX_LEVELS)
            self._lists[node.get(qn("w:numId"), "")] = _List(definition, node, counter)

    def _place(self, paragraph: Any) -> tuple[str, int]:
        """Return the id of the paragraph's list, and the level in it from 0. Its style is asked after the paragraph."""
        properties = _child(paragraph, _PROPERTIES)
        if properties is None:
            list_id, level, style_id = None, None, None
        else:
            list_id, level = _numbers_of(properties)
            style_id = _value(properties, _STYLE)
        if list_id is None:
            if style_id not in self._places_by_style:
                self._places_by_style[style_id] = self._place_of_style(style_id)
            list_id, style_level = self._places_by_style[style_id]
            level = style_level if level is None else level
        return list_id, level or 0

    def _place_of_style(self, style_id: str | None) -> tuple[str, int | None]:
        """Return the list and the level that a style or one of those below it names."""
        first_style_id = style_id
        for _ in range(MAX_STYLE_DEPTH):
            style = self._styles.get(style_id)
            if style is None:
                break
            list_id, level = _numbers_of(_child(style, _PROPERTIES))
            if list_id is not None:
                if level is None and list_id in self._lists:
                    level = self._lists[list_id].level_of_style(first_style_id)
                return list_id, level
            style_id = _value(style, qn("w:basedOn"))
        return "", None


class _List:
    """A list, and the last number at each of its levels, which lists with one definition share."""

    def __init__(self, definition: Any, instance: Any, counter: list[int | None]) -> None:
        self._counter = counter
        self._levels: dict[int, Any] = {}
        self._restarts: dict[int, int] = {}
        for node in definition.iterchildren(qn("w:lvl")):
            self._add_level(node)
        for change in instance.iterchildren(qn("w:lvlOverride")):
            for node in change.iterchildren(qn("w:lvl")):
                self._add_level(node)
            level = whole_number(change.get(qn("w:ilvl"), ""))
            start = whole_number(_value(change, qn("w:startOverride")) or "")
            if level is not None and start is not None:
                self._restarts[level] = start

    def level_of_style(self, style_id: str | None) -> int | None:
        """Return the level that belongs to a style, such as that of the headings of a level."""
        return next((level for level, node in self._levels.items() if _value(node, _STYLE) == style_id), None)

    def next_label(self, level: int) -> str:
        """Count one item at this level and return its number."""
        node = self._levels.get(level)
        kind = _value(node, qn("w:numFmt"))
        if node is None or kind == "none":
            return ""
        last = self._counter[level]
        self._counter[level] = self._start(level) if last is None else last + 1
        if level in self._restarts:
            self._counter[level] = self._restarts.pop(level)
        self._counter[level + 1 :] = [None] * (MAX_LEVELS - level - 1)
        if kind == "bullet":
            return _BULLET
        is_legal = node.find(qn("w:isLgl")) is not None
        text = _value(node, qn("w:lvlText")) or ""
        return _REFERENCE.sub(lambda match: self._number(int(match[1]) - 1, is_legal), text).strip()

    def _add_level(self, node: Any) -> None:
        level = whole_number(node.get(qn("w:ilvl"), ""))
        if level is not None and level < MAX_LEVELS:
            self._levels[level] = node

    def _start(self, level: int) -> int:
        start = whole_number(_value(self._levels.get(level), qn("w:start")) or "")
        return 1 if start is None else start

    def _number(self, level: int, is_legal: bool) -> str:
        number = self._counter[level]
        if number is None:
            number = self._start(level)
        write = WORD_NUMBERS.get(_value(self._levels.get(level), qn("w:numFmt")) or "", decimal)
        return decimal(number) if is_legal else write(number)


def _numbers_of(properties: Any) -> tuple[str | None, int | None]:
    """Return the id of the list and the level that properties of a paragraph or a style name."""
    node = None if properties is None else _child(properties, _NUMBERS)
    if node is None:
        return None, None
    return _value(node, qn("w:numId")), whole_number(_value(node, qn("w:ilvl")) or "")


def _value(node: Any, name: str) -> str | None:
    """Return the attribute ``val`` of a child."""
    child = None if node is None else _child(node, name)
    return None if child is None else child.get(_VALUE)


def _child(node: Any, name: str) -> Any:
    """Return the first child with this name, or ``None``; faster than ``find``."""
    return next(node.iterchildren(name), None)
