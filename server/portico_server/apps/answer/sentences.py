"""Where sentences begin and end in running text. Pure functions; what they return are offsets, so that a quotation is
the document's own text to the letter.
"""

from __future__ import annotations

import re

from portico_server.apps.language import CJK

Span = tuple[int, int]
"""Offsets of the first character and of the one behind the last."""

_CLOSERS = "\"'”’»`)\\]）】》」』*_"
_END = re.compile(
    rf"(?P<wide>[。！？｡]+[{_CLOSERS}]*)"
    rf"|(?P<narrow>[.!?…]+[{_CLOSERS}]*)(?=\s|$|[{CJK}])"
    r"|(?P<blank>[ \t]*\n[ \t]*\n\s*)"
    r"|(?P<line>[ \t]*\n[ \t]*)"
)
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘]+$")
_NEXT = re.compile(r"[\s\"'“‘(\[*_`«]*(?P<first>[^\W_]+)?")
_SAID = re.compile(r"[^。！？\s，]{0,8}[说說道问問答喊叫][。，]")
"""Behind what somebody said in Chinese: that it was said."""

_INITIAL = re.compile(r"(?:[^\W\d_]\.)+$")
_NUMBER = re.compile(r"\d+\.$")

_ABBREVIATED = (
    "mr mrs ms dr prof rev hon st sr jr vs etc e.g i.e eg ie cf al approx est fig figs eq eqs no nos vol "
    "vols pp ch sec sect ca c p ed eds dept univ assn bros inc ltd co corp gen col lt capt cmdr sgt maj "
    "adm gov sen rep pres supt jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur "
    "thurs fri sat sun ft mt ave blvd rd min max avg resp incl viz ibid op cit z.b d.h bzw usw nr str "
    "bspw vgl sog ggf mme mlle"
)
ABBREVIATIONS = frozenset(_ABBREVIATED.split())
"""Words after whose point a sentence rarely ends, in lower case and without the point."""

ENDING = frozenset({"etc", "inc", "ltd", "co", "corp", "jr", "sr", "al", "no", "usw"})
"""Those of them that also stand at the end of one."""

_OPENING = (
    "a an the this that these those it its he she they we i you his her their our in on at by from for "
    "with after before during when while if as since because although however but and or so then there "
    "here what who how why all some many most both each every no not once according under over between "
    "among until such"
)
_OPENERS = frozenset(_OPENING.split())
"""Words that begin a sentence far more often than they follow an initial."""

MIN_WRAP_WIDTH = 48
"""Columns (two for each CJK character) from which a line may have been broken because it was full."""


def sentences(text: str) -> list[Span]:
    """The sentences of ``text``, in order, without the space around them.

    A point ends nothing in a number, an address, an initial or an abbreviation; a line ends a sentence unless it was
    broken because it was full.
    """
    spans: list[Span] = []
    begin = 0
    for match in _END.finditer(text):
        if match.start() < begin:
            continue
        if match["line"] is not None and _is_wrapped(text, match.start(), match.end()):
            continue
        if match["narrow"] is not None and not _ends(text, begin, match):
            continue
        if match["wide"] is not None and _SAID.match(text, match.end()) and match["wide"][-1] in "”’」』":
            continue
        begin = _add(spans, text, begin, match.end())
    _add(spans, text, begin, len(text))
    return spans


def _add(spans: list[Span], text: str, begin: int, end: int) -> int:
    piece = text[begin:end]
    stripped = piece.strip()
    if stripped:
        first = begin + len(piece) - len(piece.lstrip())
        spans.append((first, first + len(stripped)))
    return end


def _ends(text: str, begin: int, match: re.Match[str]) -> bool:
    """Whether a point, a question mark … ends a sentence: by the word before it and the one behind."""
    after = _NEXT.match(text, match.end())
    first = after["first"] if after is not None else None
    if first is None:
        return True
    if match["narrow"][0] != "." or match["narrow"].startswith(".."):
        return not first[0].islower()
    before = _LAST_WORD.search(text, begin, match.start() + 1)
    word = before.group() if before is not None else ""
    if first[0].islower():
        return False
    if _INITIAL.fullmatch(word) and len(word) > 1:
        return first.lower() in _OPENERS
    if _NUMBER.fullmatch(word) and before is not None and not text[begin : before.start()].strip():
        return False  # the number of a list item
    plain = word.rstrip(".").lower()
    if plain not in ABBREVIATIONS:
        return True
    return plain in ENDING and first.lower() in _OPENERS


def _is_wrapped(text: str, start: int, end: int) -> bool:
    """Whether the line that ends at ``start`` runs on behind the break: it is full, and what follows continues it."""
    line = text[text.rfind("\n", 0, start) + 1 : start]
    if _width(line) < MIN_WRAP_WIDTH or line.rstrip()[-1:] in ":：":
        return False
    following = text[end : (text.find("\n", end) + 1 or len(text) + 1) - 1]
    first_word = following.split(" ", 1)[0]
    if not following or re.match(r"[-*+•|#>]|\d+[.)]\s|```|~~~", following):
        return False
    # Had the next word still found room in a line as long as its neighbour, the break would be the writer's own.
    return _width(line) + 1 + min(_width(first_word), 24) >= 0.75 * _width(following)


def _width(text: str) -> int:
    return len(text) + len(re.findall(f"[{CJK}，。、；：？！]", text))
