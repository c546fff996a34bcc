"""A guard from the configuration: what it detects, where it applies, and what it does with a text in which it detects
something.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from portico_server.core.dataclass import dataclass
from portico_server.core.detectors import Detector
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.core.look_alikes import fold_text
from portico_server.features.guards.detectors import GROUPS, KINDS

logger = logging.getLogger(__name__)

GuardPlace: TypeAlias = Literal["input", "output", "tool_arguments", "tool_results"]
GuardAction: TypeAlias = Literal["block", "mask", "flag", "mark"]

PLACES: Final[tuple[GuardPlace, ...]] = get_args(GuardPlace)
ACTIONS: Final[tuple[GuardAction, ...]] = get_args(GuardAction)
ON_ERROR: Final = ("block", "pass")

EVERYTHING: Final = "*"

MAX_LOOP_CHARS: Final = 20_000
"""Maximum number of characters searched on the event loop; longer texts are searched in a thread."""

MIN_READ_NUMBER: Final = 10**8
"""Minimum value of a number that may be a card or phone number."""

MEDIA: Final = ("url", "image_url", "file_data")
"""Fields that can contain media as a ``data:`` URL: an image, audio or a document, which guards do not inspect."""

MAX_OWN_PATTERNS: Final = 200
"""Maximum number of words and patterns in one guard, counted together."""

MIN_INFLECTED_CHARS: Final = 3
"""Minimum number of characters of a word whose inflected forms are detected."""

MAX_GAP_CHARS: Final = 8
"""Maximum number of spaces, hyphens and underscores between two words of a phrase."""

MAX_ENDING_CHARS: Final = 6
"""Maximum number of characters that an inflected form is longer than its word, with the characters around it."""

MIN_BROKEN_CHARS: Final = 5
"""Minimum number of characters of a word that is also detected with line breaks between its letters."""

_BREAK: Final = r"(?:-?\n{1,4})?"
"""What a document, or an API that joins the parts of a message, puts within a word that it divides."""

_GAP: Final = rf"[\s\p{{Z}}_-]{{1,{MAX_GAP_CHARS}}}"

_VOWELS: Final = frozenset("aeiou")

_FIELDS: Final = ("name", "on", "detect", "words", "patterns", "where", "action", "on_error")


class ContentBlocked(InvalidRequest):
    """A guard has detected forbidden content. The message names the kind of content, never the content."""

    code = "content_filter"


@dataclass(frozen=True, slots=True)
class ContentGuard:
    """A content guard. ``on`` lists the keys of the servables it guards, or ``*``.

    ``on_error`` decides what happens to a text that cannot be inspected.
    """

    name: str
    on: frozenset[str]
    detectors: tuple[Detector, ...]
    where: frozenset[GuardPlace]
    action: GuardAction
    on_error: Literal["block", "pass"] = "block"

    @property
    def reach(self) -> int:
        """Number of characters of a stream that may be needed before a match can be recognized."""
        return max(detector.reach for detector in self.detectors)

    def label(self, kind: str) -> str:
        """Return the replacement for a masked match of this kind."""
        return next(detector.label for detector in self.detectors if detector.kind == kind)

    def explain(self, kinds: Mapping[str, int], place: GuardPlace) -> str:
        """Explain why a text was blocked."""
        kind_list = ", ".join(sorted(kinds))
        subject = {
            "input": "The input",
            "output": "The answer",
            "tool_arguments": "The tool's arguments",
            "tool_results": "The result",
        }[place]
        return f"{subject} was blocked by the guard '{self.name}', which found: {kind_list}."


def parse_guard(item: Mapping[str, Any], at: str) -> ContentGuard:
    """Parse an entry of ``guards``. Raise `InvalidRequest` with the position of the error."""
    for field in item:
        if field not in _FIELDS:
            raise InvalidRequest(
                f"Unknown field '{field}' in {at}.{nearest(str(field), _FIELDS)}", param=f"{at}.{field}"
            )
    on, places = _texts(item, "on", at), _texts(item, "where", at, ("input", "output"))
    for place in places:
        if place not in PLACES:
            not_one_of(f"{at}.where", place, PLACES)
    action, on_error = item.get("action"), item.get("on_error", "block")
    if action is None:
        missing(f"{at}.action")
    if action not in ACTIONS:
        not_one_of(f"{at}.action", action, ACTIONS)
    if action == "mark" and set(places) != {"tool_results"}:
        wrong(
            f"{at}.action",
            "can be 'mark' only with 'where: [tool_results]', because it adds a note for the model that "
            "reads them",
        )
    if on_error not in ON_ERROR:
        not_one_of(f"{at}.on_error", on_error, ON_ERROR)
    detectors = _detectors(item, at)
    if not on or not places:
        missing(f"{at}.{'on' if not on else 'where'}")
    return ContentGuard(
        str(item["name"]),
        frozenset(on),
        detectors,
        frozenset(cast("Sequence[GuardPlace]", places)),
        action,
        on_error,
    )


def _detectors(item: Mapping[str, Any], at: str) -> tuple[Detector, ...]:
    detectors: list[Detector] = []
    detector_names = (*GROUPS, *KINDS)
    for name in _texts(item, "detect", at):
        if name not in detector_names:
            not_one_of(f"{at}.detect", name, detector_names)
        detectors += GROUPS.get(name) or KINDS[name]
    own_patterns = (("words", _texts(item, "words", at)), ("patterns", _texts(item, "patterns", at)))
    if sum(len(texts) for _, texts in own_patterns) > MAX_OWN_PATTERNS:
        wrong(f"{at}.patterns", f"has more than {MAX_OWN_PATTERNS} words and patterns")
    for kind, texts in own_patterns:
        if not texts:
            continue
        patterns = tuple(_word(text) for text in texts) if kind == "words" else tuple(texts)
        reach = max(map(_reach, texts)) if kind == "words" else 256
        detector = Detector(kind.removesuffix("s"), "[BLOCKED]", patterns, reach=reach, bounded=True)
        try:
            detector.compiled()
        except InvalidRequest as error:
            raise InvalidRequest(
                f"{at}.{kind}: {error.message}", code=error.code, param=f"{at}.{kind}"
            ) from error
        detectors.append(detector)
    if not detectors:
        wrong(at, "detects nothing: specify 'detect', 'words' or 'patterns'")
    return tuple(dict.fromkeys(detectors))


def _word(word: str) -> str:
    """Return a case-insensitive pattern for a word or phrase that is not part of another word.

    The pattern also matches the possessive and the inflected forms of the last word in English. Its reading of letters
    and spaces is that of `portico_server.core.look_alikes`.
    """
    first, *next_words = fold_text(word)[0].split() or [word]
    pieces = [_escape(piece) for piece in (first, *next_words)]
    last = (first, *next_words)[-1]
    if len(last) >= MIN_INFLECTED_CHARS:
        pieces[-1] = _inflected(last)
    # an underscore is a part of a word for the pattern, but not for a person
    boundary_before = r"(?:\b|_)" if first[0].isascii() and first[0].isalnum() else ""
    boundary_behind = r"(?:\b|_)" if word[-1].isascii() and word[-1].isalnum() else ""
    return f"(?i){boundary_before}{_GAP.join(pieces)}{boundary_behind}"


def _reach(word: str) -> int:
    return 2 * len(word) + MAX_GAP_CHARS * len(word.split()) + MAX_ENDING_CHARS


def _escape(text: str) -> str:
    chars = (char if char.isalnum() or ord(char) > 127 else f"\\{char}" for char in text)
    return (_BREAK if len(text) >= MIN_BROKEN_CHARS else "").join(chars)


def _inflected(word: str) -> str:
    """Return a pattern for an English word and its forms: ``merge``, ``merge's``, ``merges``, ``merged``, ``merging``.

    A word that does not end with an English letter has no other forms.
    """
    last = word[-1].lower()
    stem, escaped_word = _escape(word[:-1]), _escape(word)
    if not ("a" <= last <= "z"):
        return escaped_word
    before_last = word[-2:-1].lower()
    if last == "e" and not _VOWELS.isdisjoint(word[:-1].lower()):
        return rf"{stem}(?:e(?:['’]s|s['’]?|d)?|ing)"
    if last == "y" and before_last.isalpha() and before_last not in _VOWELS:
        return rf"{stem}(?:y(?:['’]s|ing)?|ies['’]?|ied)"
    doubled = f"|{last}(?:ed|ing)" if before_last in _VOWELS and last not in _VOWELS else ""
    return rf"{escaped_word}(?:['’]s|s['’]?|es['’]?|ed|ing{doubled})?"


def _texts(item: Mapping[str, Any], field: str, at: str, default: Sequence[str] = ()) -> Sequence[str]:
    value = item.get(field, default)
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) and text for text in texts):
        wrong_type(f"{at}.{field}", "text or a list of texts", value)
    return texts
