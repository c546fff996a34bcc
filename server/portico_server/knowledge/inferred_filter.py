"""Filters that a question says in words: "since 2024", "in the contract with Acme Ltd.". Pure functions, English and
Chinese.

Only attributes that files of the store have, and values that they have there, are looked for, so nothing is made up. A
word that may mean something else restricts nothing: a value of one plain word counts beside the name of its attribute
alone, as does a bare year.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any, Final, Literal, TypeAlias

from portico_server.core.request import Attributes, Filter
from portico_server.core.words import MONTHS, has_cjk
from portico_server.knowledge import filter as filters

MAX_QUESTION_CHARS: Final = 2_000
"""Characters of a question in which filters are looked for: its beginning."""

MAX_VALUES: Final = 1_000
"""Values of one attribute that are looked for: those of the first files."""

MAX_ATTRIBUTES: Final = 1_000
"""Attributes that are looked for: those of the first files."""

MAX_SAID: Final = 200
"""Names and values of attributes that are in a question, at most: further ones are not looked at closely."""

MAX_VALUE_CHARS: Final = 80
MIN_YEAR, MAX_YEAR = 1000, 2999

_Form: TypeAlias = Literal["year", "text"]
"""How files write a date: as a number such as 2024, or as text such as ``2024-03-01``."""


def infer(question: str, known: Iterable[Attributes], taken: Iterable[str] = ()) -> tuple[Filter, ...]:
    """The conditions on attributes that ``question`` says; a file has to meet all of them, see `leaves`.

    ``known`` are the attributes of the store's files. Those in ``taken`` are left alone: the request filters by them.
    """
    values = _values(known, frozenset(taken))
    text = question[:MAX_QUESTION_CHARS]
    names = _names_in(text, values)
    return (*_of_values(text, values, names), *_of_dates(text, values, names))


def leaves(conditions: Sequence[Filter], attributes: Attributes) -> bool:
    """Whether a file stays: one that does not have an attribute is not left out by what is said about it."""
    return all(_leaves(condition, attributes) for condition in conditions)


def _leaves(condition: Filter, attributes: Attributes) -> bool:
    if any(part.key not in attributes for part in filters.comparisons(condition)):
        return True
    return filters.matches(condition, attributes)


def _values(known: Iterable[Attributes], taken: frozenset[str]) -> dict[str, set[Any]]:
    values: dict[str, set[Any]] = {}
    for attributes in known:
        for key, value in attributes.items():
            if (
                key in taken
                or isinstance(value, bool)
                or (key not in values and len(values) == MAX_ATTRIBUTES)
            ):
                continue
            found = values.setdefault(key, set())
            if len(found) < MAX_VALUES:
                found.add(value)
    return values


def _names_in(text: str, values: Iterable[str]) -> frozenset[str]:
    """The names of attributes that the question says."""
    lower = text.lower()
    likely = (key for key in values if all(word.lower() in lower for word in _words_of(key)))
    return frozenset(key for key in islice(likely, MAX_SAID) if _name_pattern(key).search(text))


# --- values ---------------------------------------------------------------------------------------------------

_NEGATION = re.compile(
    r"(?:\b(?:not|no|except|without|excluding|apart|than|unlike)\b[\w\s'\"“,-]{0,24}|[不非除无没][^。,，？?]{0,6})$",
    re.IGNORECASE,
)
"""Before a value: what is asked for is something else."""

_NEGATION_CHARS: Final = 48
"""As far before a value as that may begin."""


def _of_values(text: str, values: Mapping[str, set[Any]], names: frozenset[str]) -> Iterator[Filter]:
    lower, left = text.lower(), MAX_SAID
    for key, known in values.items():
        named = key in names
        # A pattern for each value would take seconds: nearly all are known not to be there without one.
        likely = sorted((value for value in known if _spelled(value).lower() in lower), key=_spelled)[:left]
        left -= len(likely)
        found = [value for value in likely if _is_said(value, key, text, named=named)]
        # The longest alone: "Acme" is in "Acme Ltd." too.
        found = [
            one
            for one in found
            if not any(one != other and str(one).casefold() in str(other).casefold() for other in found)
        ]
        if len(found) == 1:
            yield Filter("eq", key, found[0])
        elif found:
            yield Filter("in", key, filters.Choices(found))


def _is_said(value: Any, key: str, text: str, *, named: bool) -> bool:
    if isinstance(value, str):
        if not 2 <= len(value) <= MAX_VALUE_CHARS:
            return False
        exact = not (named or _is_distinct(value))  # a name in capitals, such as "Europe"
        if exact and not (value[0].isupper() and value.isalnum()):
            return False
        pattern = re.compile(_bounded(value), 0 if exact else re.IGNORECASE)
    elif named and float(value).is_integer() and not MIN_YEAR <= value <= MAX_YEAR:
        pattern = re.compile(
            rf"{_name_pattern(key).pattern}\s*(?:is|of|=|:|为|是)?\s*{value:g}(?![\w.])", re.I
        )
    else:
        return False
    return any(not _is_negated(text, match.start()) for match in pattern.finditer(text))


def _is_negated(text: str, at: int) -> bool:
    return _NEGATION.search(text[max(0, at - _NEGATION_CHARS) : at]) is not None


def _spelled(value: Any) -> str:
    """A value as a question has it."""
    return value.strip() if isinstance(value, str) else f"{value:g}"


def _is_distinct(value: str) -> bool:
    """Whether a value means itself alone: several words, letters with digits, or two Chinese characters."""
    if has_cjk(value):
        return True
    return len(value.split()) > 1 or (any(map(str.isdigit, value)) and any(map(str.isalpha, value)))


def _bounded(words: str) -> str:
    """A pattern for words that do not lie within longer ones; Chinese has no such bounds."""
    escaped = re.escape(words.strip())
    return escaped if has_cjk(words) else rf"(?<!{_LETTER}){escaped}(?!{_LETTER})"


_LETTER = r"[^\W\u3040-\u30ff\u3400-\u9fff]"
"""What may not stand beside a word: Chinese and Japanese have no spaces."""


def _name_pattern(key: str) -> re.Pattern[str]:
    """An attribute's name as a question says it: ``contract_year`` is "contract year", its plural too."""
    inner = r"[\s_-]*".join(map(re.escape, _words_of(key)))
    return re.compile(inner if has_cjk(key) else rf"(?<!{_LETTER}){inner}s?(?!{_LETTER})", re.IGNORECASE)


def _words_of(key: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", key) if word] or [key]


# --- dates ----------------------------------------------------------------------------------------------------

_MONTH = "|".join(rf"{name[:3]}(?:{name[3:]})?\.?" if len(name) > 3 else name for name in MONTHS)
_WHEN = (
    rf"(?:(?:(?P<{{0}}day>\d{{{{1,2}}}})(?:st|nd|rd|th)?\s+)?(?P<{{0}}month>{_MONTH})\s+)?(?P<{{0}}year>[12]\d{{{{3}}}})"
    r"(?:-(?P<{0}m>\d\d)(?:-(?P<{0}d>\d\d))?)?(?![\w-])"
)
_WHEN_ZH = (
    r"(?P<{0}year>[12]\d{{3}})\s*年?(?:\s*(?P<{0}m>\d{{1,2}})\s*月)?(?:\s*(?P<{0}d>\d{{1,2}})\s*[日号])?"
)
_ENGLISH = re.compile(
    rf"\b(?:between|from)\s+{_WHEN.format('a')}\s+(?:and|to|until|till|through)\s+{_WHEN.format('b')}"
    r"|\b(?P<word>since|after|before|until|till|up to|in|during|of)\s+(?:the\s+(?:year|end of)\s+)?"
    rf"{_WHEN.format('c')}",
    re.IGNORECASE,
)
_CHINESE = re.compile(
    rf"(?<!\d){_WHEN_ZH.format('a')}\s*(?:到|至|—|-|~)\s*{_WHEN_ZH.format('b')}(?:之间|期间)?"
    rf"|(?P<first>自从?|从)?\s*(?<!\d){_WHEN_ZH.format('c')}\s*(?P<word>以来|之后|以后|后|起|之前|以前|前|为止)?"
)
_SINCE = frozenset({"since", "以来", "起"})
_AFTER = frozenset({"after", "之后", "以后", "后"})
_BEFORE = frozenset({"before", "之前", "以前", "前"})
_UNTIL = frozenset({"until", "till", "up to", "为止"})


@dataclass(frozen=True, slots=True)
class _Span:
    """The days from ``first`` to before ``end``, of a year, a month or one day; ``size``: which of them."""

    first: str
    end: str

    @classmethod
    def of(cls, match: re.Match[str], group: str) -> _Span | None:
        given = match.groupdict()
        year = int(given[f"{group}year"])
        name = (given.get(f"{group}month") or "").rstrip(".").lower()
        month = next((number for number, one in enumerate(MONTHS, 1) if name and one.startswith(name)), 0)
        month = month or int(given[f"{group}m"] or 0)
        day = int(given.get(f"{group}day") or given[f"{group}d"] or 0)
        try:
            date(year, month or 1, day or 1)
        except ValueError:
            return None
        if not month:
            return cls(f"{year:04}", f"{year + 1:04}")
        following = f"{year + month // 12:04}-{month % 12 + 1:02}"
        if not day:
            return cls(f"{year:04}-{month:02}", following)
        # As text, "2024-03-01T10:00" comes after "2024-03-01" and before "2024-03-01~".
        return cls(f"{year:04}-{month:02}-{day:02}", f"{year:04}-{month:02}-{day:02}~")


def _of_dates(text: str, values: Mapping[str, set[Any]], names: frozenset[str]) -> Iterator[Filter]:
    forms = {key: form for key, known in values.items() if (form := _form(known)) is not None}
    named = names & forms.keys()
    chosen = named or set(forms)
    if len(chosen) != 1:  # of several dates, the question does not say which
        return
    (key,) = chosen
    for match in (*_ENGLISH.finditer(text), *(_CHINESE.finditer(text) if has_cjk(text) else ())):
        first, end = _bounds(match, named=bool(named))
        if first:
            yield Filter("gte", key, _as(forms[key], first))
        if end:
            yield Filter("lt", key, _as(forms[key], end, up=True))
        if first or end:
            return


def _bounds(match: re.Match[str], *, named: bool) -> tuple[str, str]:
    """The first day, and the one before which it must lie; empty where there is no such bound."""
    if match["ayear"]:
        one, other = _Span.of(match, "a"), _Span.of(match, "b")
        return (one.first, other.end) if one and other else ("", "")
    span = _Span.of(match, "c")
    word = (match["word"] or "").lower()
    if span is None or _is_negated(match.string, match.start()):
        return "", ""
    if word in _SINCE or (not word and match.groupdict().get("first")):
        return span.first, ""
    if word in _AFTER:
        return span.end, ""
    if word in _BEFORE:
        return "", span.first
    if word in _UNTIL:
        return "", span.end
    return (span.first, span.end) if named else ("", "")


def _form(known: set[Any]) -> _Form | None:
    """How the values of an attribute are dates, if all of them are."""
    if all(isinstance(value, int | float) and MIN_YEAR <= value <= MAX_YEAR for value in known):
        return "year"
    if all(isinstance(value, str) and _ISO.match(value) for value in known):
        return "text"
    return None


_ISO = re.compile(r"[12]\d{3}(?:-\d\d(?:-\d\d(?:[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?)?)?$")


def _as(form: _Form, day: str, *, up: bool = False) -> str | float:
    """A day as files write it. Where they have years alone, part of a year is all of it; ``up``: as an end."""
    if form == "text":
        return day
    return int(day[:4]) + (1 if up and len(day) > 4 else 0)
