"""Filters on the attributes of files in OpenAI's format: parsed on entry, then applied to attributes.

`matches` applies a filter that a caller chooses, `permits` a filter bound to a key. `infer` extracts conditions from a
question in English or Chinese: "since 2024", "in the contract with Acme Ltd.". It considers only attributes and values
of the store's files, so it cannot invent any.

Ambiguous words do not restrict the search: a value that is one plain word, or a bare year, counts only next to the
name of its attribute.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import cached_property
from itertools import islice
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.facts import FACT, OWNER
from portico_server.core.names import is_plain
from portico_server.core.request import Attributes, Filter
from portico_server.core.words import MONTHS, has_cjk

COMPARISONS: Final = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")
JOINS: Final = ("and", "or")
MAX_DEPTH: Final = 16
MAX_CONDITIONS: Final = 256
MAX_VALUES: Final = 1_000
MAX_ALL_VALUES: Final = 10_000
"""Maximum number of values in all ``in`` and ``nin`` lists of a filter."""

MAX_FILTERED_STORES: Final = 64
"""Maximum number of stores for which one key can have filters."""

MAX_STORE_NAME_CHARS: Final = 128
"""Maximum length of a store's name or id in characters."""

_SIGNS: Final = {
    "eq": "=",
    "ne": "≠",
    "gt": ">",
    "gte": "≥",
    "lt": "<",
    "lte": "≤",
    "in": "in",
    "nin": "not in",
}


class Labelled(Protocol):
    """A file of a store with its labels, see `portico_server.core.file_labels.FileLabels`."""

    @property
    def attributes(self) -> Attributes: ...

    @property
    def readers(self) -> Sequence[Sequence[str]] | None: ...


L = TypeVar("L", bound=Labelled)
T = TypeVar("T")


class Choices(tuple[Any, ...]):
    """The values of an ``in`` or ``nin`` comparison, with constant-time lookup."""

    @cached_property
    def known(self) -> frozenset[tuple[str, Any]]:
        """The values, each with its kind."""
        return frozenset((_kind(value), value) for value in self)

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The kinds of the values."""
        return frozenset(map(_kind, self))


def parse(value: Any, param: str = "filters") -> Filter:
    """Parse a filter from JSON. Raise `InvalidRequest` with the path of the error as ``param``."""
    result = _parse(value, param, MAX_DEPTH)
    if sum(1 for _ in comparisons(result)) > MAX_CONDITIONS:
        raise InvalidRequest(
            f"The filter has more than {MAX_CONDITIONS} comparisons; use 'in' with a list instead.",
            param=param,
        )
    if sum(len(part.value) for part in comparisons(result) if isinstance(part.value, tuple)) > MAX_ALL_VALUES:
        raise InvalidRequest(
            f"The filter has more than {MAX_ALL_VALUES:,} values in all its lists; split it into several "
            "searches.",
            param=param,
        )
    return result


def _parse(value: Any, param: str, depth: int) -> Filter:
    if not isinstance(value, Mapping):
        raise InvalidRequest(
            f"{param} must be an object such as {{'type': 'eq', 'key': 'lang', 'value': 'en'}}.", param=param
        )
    if depth == 0:
        raise InvalidRequest(f"The filter is nested more than {MAX_DEPTH} levels deep.", param=param)
    kind = value.get("type")
    known_fields = ("type", "filters") if kind in JOINS else ("type", "key", "value")
    for name in value:
        if kind in (*JOINS, *COMPARISONS) and name not in known_fields and value[name] is not None:
            raise InvalidRequest(
                f"A filter of type '{kind}' has no field "
                f"'{str(name)[:80]}'.{nearest(str(name), known_fields)}",
                code="unknown_parameter",
                param=f"{param}.{str(name)[:80]}",
            )
    if kind in JOINS:
        parts = value.get("filters")
        if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
            raise InvalidRequest(
                f"A filter of type '{kind}' needs 'filters', a list with at least one filter.",
                param=f"{param}.filters",
            )
        return Filter(
            type=kind,
            filters=tuple(_parse(part, f"{param}.filters[{i}]", depth - 1) for i, part in enumerate(parts)),
        )
    if kind not in COMPARISONS:
        raise InvalidRequest(
            f"'{kind}' is not a filter type. Choose one of {', '.join((*COMPARISONS, *JOINS))}.",
            param=f"{param}.type",
        )
    key = value.get("key")
    if not isinstance(key, str) or not key:
        raise InvalidRequest(
            f"A filter of type '{kind}' needs 'key', the name of an attribute.", param=f"{param}.key"
        )
    if "value" not in value:
        raise InvalidRequest(
            f"The filter on '{key}' needs a 'value' to compare with.", param=f"{param}.value"
        )
    return Filter(type=kind, key=key, value=_operand(kind, key, value["value"], f"{param}.value"))


def _operand(kind: str, key: str, value: Any, param: str) -> Any:
    if kind in ("in", "nin"):
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > MAX_VALUES:
            raise InvalidRequest(
                f"'{kind}' on '{key}' needs a list of at most {MAX_VALUES:,} strings or numbers.", param=param
            )
        return Choices(_scalar(item, key, f"{param}[{i}]") for i, item in enumerate(value))
    operand = _scalar(value, key, param)
    if kind in ("gt", "gte", "lt", "lte") and isinstance(operand, bool):
        raise InvalidRequest(f"'{kind}' on '{key}' needs a number or a string, not {value!r}.", param=param)
    return operand


def _scalar(value: Any, key: str, param: str) -> str | float | bool:
    if not isinstance(value, str | int | float) or value != value:
        raise InvalidRequest(
            f"The value for '{key}' must be a string, a number or a boolean, not {type(value).__name__}.",
            param=param,
        )
    return value


def parse_bound(value: Any, param: str = "filters") -> tuple[tuple[str, Filter], ...]:
    """Parse the filters of a key: one filter per store. A store is given by its name, its id or ``*`` for all
    stores.
    """
    if value is None:
        return ()
    if not isinstance(value, Mapping) or len(value) > MAX_FILTERED_STORES:
        raise InvalidRequest(
            f"'{param}' must be an object with a filter for each of at most {MAX_FILTERED_STORES} stores, such as "
            "{'handbook': {'type': 'eq', 'key': 'team', 'value': 'sales'}}.",
            param=param,
        )
    for store in value:
        if not isinstance(store, str) or not 1 <= len(store) <= MAX_STORE_NAME_CHARS or not is_plain(store):
            raise InvalidRequest(
                f"'{param}' must name each store by its name, its id or '*', with 1 to "
                f"{MAX_STORE_NAME_CHARS} characters and no control characters.",
                param=param,
            )
    return tuple((store, parse(item, f"{param}.{store}")) for store, item in value.items())


def to_json(condition: Filter) -> dict[str, Any]:
    """Return the filter as JSON that `parse` accepts."""
    if condition.key is None:
        return {"type": condition.type, "filters": [to_json(part) for part in condition.filters]}
    value = list(condition.value) if isinstance(condition.value, tuple) else condition.value
    return {"type": condition.type, "key": condition.key, "value": value}


def in_words(condition: Filter) -> str:
    """Return a readable form of the filter: ``team = 'sales' and level ≤ 2``."""
    if condition.type == "readers":
        return "the source lets one of the caller's groups read the file"
    if condition.type == "facts":
        return "the file is not a fact of another key"
    if condition.key is None:
        parts = [f"({in_words(part)})" if part.key is None else in_words(part) for part in condition.filters]
        return f" {condition.type} ".join(parts)
    value = list(condition.value) if isinstance(condition.value, tuple) else condition.value
    return f"{condition.key} {_SIGNS[condition.type]} {value!r}"


def comparisons(condition: Filter) -> Iterator[Filter]:
    """Yield the comparisons in a filter, from left to right."""
    if condition.key is not None:
        yield condition
    for part in condition.filters:
        yield from comparisons(part)


def select(condition: Filter, files: Iterable[tuple[str, Attributes]]) -> list[str]:
    """Return the ids of the files whose attributes meet ``condition``.

    A file without the attribute meets only ``ne`` and ``nin``. Raises `InvalidRequest` for an attribute that no file
    has, and for a value if no file has the attribute with a value of the same kind.
    """
    rows = list(files)
    _check(condition, rows)
    return [file_id for file_id, _ in _matching_files(matches, condition, rows)]


def permitted(condition: Filter, files: Iterable[tuple[str, L]]) -> list[tuple[str, L]]:
    """Return the files for which `permits` returns true."""
    return _matching_files(permits, condition, files)


def _matching_files(
    test: Callable[[Filter, T], bool], condition: Filter, files: Iterable[tuple[str, T]]
) -> list[tuple[str, T]]:
    """Return the files that pass a test. If several files share one object, it is tested once."""
    results: dict[int, tuple[bool, T]] = {}  # contains the object too, so that its id is not reused
    passing_files = []
    for file_id, labels in files:
        known_result = results.get(id(labels))
        if known_result is None:
            known_result = results[id(labels)] = (test(condition, labels), labels)
        if known_result[0]:
            passing_files.append((file_id, labels))
    return passing_files


def matches(condition: Filter, attributes: Attributes) -> bool:
    """Return whether ``attributes`` meet ``condition``. Values are never converted: 1 equals neither '1' nor true."""
    if condition.type == "and":
        return all(matches(part, attributes) for part in condition.filters)
    if condition.type == "or":
        return any(matches(part, attributes) for part in condition.filters)
    assert condition.key is not None
    attribute = attributes.get(condition.key)
    value = condition.value
    match condition.type:
        case "eq":
            return _equals(attribute, value)
        case "ne":
            return not _equals(attribute, value)
        case "in":
            return (_kind(attribute), attribute) in _choices(value).known
        case "nin":
            return (_kind(attribute), attribute) not in _choices(value).known
        case _:
            return _kind(attribute) == _kind(value) and _compare(condition.type, attribute, value)


def permits(condition: Filter, file: Labelled) -> bool:
    """Return whether a filter bound to a caller lets a file through.

    Unlike in `matches`, an attribute that is missing, or whose kind differs from that of the value, meets no
    comparison, not even ``ne`` and ``nin``. Files without the attribute are therefore withheld.
    """
    if condition.type == "and":
        return all(permits(part, file) for part in condition.filters)
    if condition.type == "or":
        return any(permits(part, file) for part in condition.filters)
    if condition.type == "readers":
        return file.readers is not None and not any(map(condition.value.isdisjoint, file.readers))
    attributes = file.attributes
    if condition.type == "facts":
        return attributes.get(FACT) is not True or attributes.get(OWNER) == condition.value
    if condition.type == "eq":
        return _equals(attributes.get(condition.key or ""), condition.value)
    value = condition.value
    kinds = _choices(value).kinds if isinstance(value, tuple) else (_kind(value),)
    return _kind(attributes.get(condition.key or "")) in kinds and matches(condition, attributes)


def _choices(values: tuple[Any, ...]) -> Choices:
    return values if isinstance(values, Choices) else Choices(values)


def _compare(kind: str, attribute: Any, value: Any) -> bool:
    match kind:
        case "gt":
            return bool(attribute > value)
        case "gte":
            return bool(attribute >= value)
        case "lt":
            return bool(attribute < value)
        case _:
            return bool(attribute <= value)


def _equals(attribute: Any, value: Any) -> bool:
    return _kind(attribute) == _kind(value) and attribute == value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "nothing"


def _check(condition: Filter, rows: Sequence[tuple[str, Attributes]]) -> None:
    if not rows:
        return
    kinds: dict[str, set[str]] = {}
    for attributes in {id(attributes): attributes for _, attributes in rows}.values():
        for key, value in attributes.items():
            kinds.setdefault(key, set()).add(_kind(value))
    for part in comparisons(condition):
        key = part.key or ""
        if key not in kinds:
            raise InvalidRequest(
                f"No file of this store has the attribute '{key}'.{nearest(key, kinds)}",
                code="unknown_attribute",
                param="filters",
            )
        values = part.value if isinstance(part.value, tuple) else (part.value,)
        wrong = next((value for value in values if _kind(value) not in kinds[key]), None)
        if wrong is not None:
            raise InvalidRequest(
                f"The attribute '{key}' is a {' or a '.join(sorted(kinds[key]))}, but the filter compares it "
                f"to {wrong!r}, a {_kind(wrong)}.",
                code="wrong_type",
                param="filters",
            )


MAX_QUESTION_CHARS: Final = 2_000
"""Number of characters at the beginning of a question that are searched for conditions."""

MAX_ATTRIBUTES: Final = 1_000
"""Maximum number of attributes considered. Further attributes, found only in later files, are ignored."""

MAX_SAID: Final = 200
"""Maximum number of attribute names, and of attribute values, that occur in a question and are examined closely."""

MAX_INFERRED_VALUES: Final = 1_000
"""Maximum number of values considered per attribute. Further values, found only in later files, are ignored."""

MAX_VALUE_CHARS: Final = 80
MIN_YEAR, MAX_YEAR = 1000, 2999

_Form: TypeAlias = Literal["year", "text"]
"""Formats in which files contain dates: a number such as 2024, or a text such as ``2024-03-01``."""


def infer(
    question: str, attributes: Iterable[Attributes], excluded_keys: Iterable[str] = ()
) -> tuple[Filter, ...]:
    """Return the attribute conditions expressed in ``question``. A file must meet all of them, as `leaves` checks.

    ``attributes`` are the attributes of the store's files. Attributes in ``excluded_keys`` are ignored, because the
    request already filters by them.
    """
    values = _values(attributes, frozenset(excluded_keys))
    text = question[:MAX_QUESTION_CHARS]
    names = _names_in(text, values)
    return (*_of_values(text, values, names), *_of_dates(text, values, names))


def leaves(conditions: Sequence[Filter], attributes: Attributes) -> bool:
    """Return whether a file meets all conditions. A file without the attribute of a condition meets the condition."""
    return all(_leaves(condition, attributes) for condition in conditions)


def _leaves(condition: Filter, attributes: Attributes) -> bool:
    if any(part.key not in attributes for part in comparisons(condition)):
        return True
    return matches(condition, attributes)


def _values(known_attributes: Iterable[Attributes], excluded_keys: frozenset[str]) -> dict[str, set[Any]]:
    values: dict[str, set[Any]] = {}
    for attributes in known_attributes:
        for key, value in attributes.items():
            if (
                key in excluded_keys
                or isinstance(value, bool)
                or (key not in values and len(values) == MAX_ATTRIBUTES)
            ):
                continue
            key_values = values.setdefault(key, set())
            if len(key_values) < MAX_INFERRED_VALUES:
                key_values.add(value)
    return values


def _names_in(text: str, values: Iterable[str]) -> frozenset[str]:
    """Return the attribute names that the question mentions."""
    lower = text.lower()
    likely = (key for key in values if all(word.lower() in lower for word in _words_of(key)))
    return frozenset(key for key in islice(likely, MAX_SAID) if _name_pattern(key).search(text))


_NEGATION = re.compile(
    r"(?:\b(?:not|no|except|without|excluding|apart|than|unlike)\b[\w\s'\"“,-]{0,24}|[不非除无没][^。,，？?]{0,6})$",
    re.IGNORECASE,
)
"""A negation before a value, which means that the question excludes the value."""

_NEGATION_CHARS: Final = 48
"""Number of characters before a value that are searched for a negation."""


def _of_values(text: str, values: Mapping[str, set[Any]], names: frozenset[str]) -> Iterator[Filter]:
    lower, remaining_values = text.lower(), MAX_SAID
    for key, key_values in values.items():
        is_named = key in names
        # Matching a pattern for each value would take seconds, so a substring check excludes most values
        # first.
        likely = sorted((value for value in key_values if _spelled(value).lower() in lower), key=_spelled)[
            :remaining_values
        ]
        remaining_values -= len(likely)
        said_values = [value for value in likely if _is_said(value, key, text, is_named=is_named)]
        # Only the longest match counts: a question with "Acme Ltd." also contains "Acme".
        said_values = [
            value
            for value in said_values
            if not any(
                value != other_value and str(value).casefold() in str(other_value).casefold()
                for other_value in said_values
            )
        ]
        if len(said_values) == 1:
            yield Filter("eq", key, said_values[0])
        elif said_values:
            yield Filter("in", key, Choices(said_values))


def _is_said(value: Any, key: str, text: str, *, is_named: bool) -> bool:
    if isinstance(value, str):
        if not 2 <= len(value) <= MAX_VALUE_CHARS:
            return False
        # a capitalized name, such as "Europe", must occur with the same case
        exact = not (is_named or _is_distinct(value))
        if exact and not (value[0].isupper() and value.isalnum()):
            return False
        pattern = re.compile(_with_word_bounds(value), 0 if exact else re.IGNORECASE)
    elif is_named and float(value).is_integer() and not MIN_YEAR <= value <= MAX_YEAR:
        pattern = re.compile(
            rf"{_name_pattern(key).pattern}\s*(?:is|of|=|:|为|是)?\s*{value:g}(?![\w.])", re.I
        )
    else:
        return False
    return any(not _is_negated(text, match.start()) for match in pattern.finditer(text))


def _is_negated(text: str, at: int) -> bool:
    return _NEGATION.search(text[max(0, at - _NEGATION_CHARS) : at]) is not None


def _spelled(value: Any) -> str:
    """Return a value as it is written in a question."""
    return value.strip() if isinstance(value, str) else f"{value:g}"


def _is_distinct(value: str) -> bool:
    """Return whether a value is unambiguous: several words, letters with digits, or a text with Chinese characters."""
    if has_cjk(value):
        return True
    return len(value.split()) > 1 or (any(map(str.isdigit, value)) and any(map(str.isalpha, value)))


def _with_word_bounds(words: str) -> str:
    """Return a pattern for words that are not part of longer words. A Chinese pattern has no word boundaries."""
    escaped_words = re.escape(words.strip())
    return escaped_words if has_cjk(words) else rf"(?<!{_LETTER}){escaped_words}(?!{_LETTER})"


_LETTER = r"[^\W\u3040-\u30ff\u3400-\u9fff]"
"""Characters that must not adjoin a word. Chinese and Japanese characters may adjoin it, because these languages are
written without spaces.
"""


def _name_pattern(key: str) -> re.Pattern[str]:
    """Return a pattern that finds an attribute's name in a question: ``contract_year`` matches "contract year" and its
    plural.
    """
    inner = r"[\s_-]*".join(map(re.escape, _words_of(key)))
    return re.compile(inner if has_cjk(key) else rf"(?<!{_LETTER}){inner}s?(?!{_LETTER})", re.IGNORECASE)


def _words_of(key: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", key) if word] or [key]


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
    """A year, a month or a day, as the range of days from ``first`` to ``end`` (exclusive)."""

    first: str
    end: str

    @classmethod
    def of(cls, match: re.Match[str], group: str) -> _Span | None:
        date_groups = match.groupdict()
        year = int(date_groups[f"{group}year"])
        name = (date_groups.get(f"{group}month") or "").rstrip(".").lower()
        month = next(
            (number for number, month_name in enumerate(MONTHS, 1) if name and month_name.startswith(name)), 0
        )
        month = month or int(date_groups[f"{group}m"] or 0)
        day = int(date_groups.get(f"{group}day") or date_groups[f"{group}d"] or 0)
        try:
            date(year, month or 1, day or 1)
        except ValueError:
            return None
        if not month:
            return cls(f"{year:04}", f"{year + 1:04}")
        following = f"{year + month // 12:04}-{month % 12 + 1:02}"
        if not day:
            return cls(f"{year:04}-{month:02}", following)
        # As text, "2024-03-01T10:00" is greater than "2024-03-01" and less than "2024-03-01~".
        return cls(f"{year:04}-{month:02}-{day:02}", f"{year:04}-{month:02}-{day:02}~")


def _of_dates(text: str, values: Mapping[str, set[Any]], names: frozenset[str]) -> Iterator[Filter]:
    forms = {key: form for key, key_values in values.items() if (form := _form(key_values)) is not None}
    named_keys = names & forms.keys()
    date_keys = named_keys or set(forms)
    if len(date_keys) != 1:  # the question does not say which of several date attributes it means
        return
    (key,) = date_keys
    for match in (*_ENGLISH.finditer(text), *(_CHINESE.finditer(text) if has_cjk(text) else ())):
        first, end = _bounds(match, is_named=bool(named_keys))
        if first:
            yield Filter("gte", key, _as(forms[key], first))
        if end:
            yield Filter("lt", key, _as(forms[key], end, up=True))
        if first or end:
            return


def _bounds(match: re.Match[str], *, is_named: bool) -> tuple[str, str]:
    """Return the first day and the exclusive end of a period. An empty string means that the period is not bounded."""
    if match["ayear"]:
        first_span, second_span = _Span.of(match, "a"), _Span.of(match, "b")
        return (first_span.first, second_span.end) if first_span and second_span else ("", "")
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
    return (span.first, span.end) if is_named else ("", "")


def _form(key_values: set[Any]) -> _Form | None:
    """Return the date format of an attribute's values, or ``None`` unless all values are dates of the same format."""
    if all(isinstance(value, int | float) and MIN_YEAR <= value <= MAX_YEAR for value in key_values):
        return "year"
    if all(isinstance(value, str) and _ISO.match(value) for value in key_values):
        return "text"
    return None


_ISO = re.compile(r"[12]\d{3}(?:-\d\d(?:-\d\d(?:[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?)?)?$")


def _as(form: _Form, day: str, *, up: bool = False) -> str | float:
    """Return a day in the date format of an attribute.

    If the format contains only years, a part of a year counts as the whole year. ``up`` treats the day as the
    exclusive end of a period and rounds up.
    """
    if form == "text":
        return day
    return int(day[:4]) + (1 if up and len(day) > 4 else 0)
