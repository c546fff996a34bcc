"""Subtitles (srt, vtt): one part per cue, with the time of the cue in seconds."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import field

from portico_server.core.dataclass import dataclass
from portico_server.core.words import whole_number
from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers.text import open_text

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2})(?:[.,](\d{1,3}))?"
_CUE = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
# A mark ends before the next one begins, so that each character is read once.
_MARK = re.compile(r"</?[a-zA-Z][^<>]*>|</?[cv]?>|<[0-9:.]+>|\{\\[^{}]*\}")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s+([^\s<>][^<>]*)>")


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield cues in the order of the file. ``line`` is the line with the time of the cue; the speaker precedes the
    text.
    """
    writer = PartWriter()
    has_parts = False
    with open_text(source) as text:
        for cue in _cues(text):
            if any(cue.lines):
                has_parts = True
                yield writer.part(" ".join(cue.lines), line=cue.line, seconds=cue.seconds)
    if not has_parts:
        raise Unreadable("contains no cues: no line such as '00:01:02,000 --> 00:01:04,000' was found.")


@dataclass(slots=True)
class _Cue:
    """A cue: the line with its time, its start in seconds, and what is said."""

    line: int
    seconds: float
    lines: list[str] = field(default_factory=list)


def _cues(text: Iterable[str]) -> Iterator[_Cue]:
    """Yield the cues. An empty line or the time of the next cue, which its number may precede, ends a cue."""
    cue: _Cue | None = None
    for number, raw in enumerate(text, start=1):
        line = raw.strip().replace("\x00", "")
        if (time := _CUE.match(line)) is not None:
            if cue is not None:
                if cue.lines and whole_number(cue.lines[-1]) is not None:
                    cue.lines.pop()
                yield cue
            hours, minutes, seconds, fraction = time.groups()[:4]
            start = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}")
            cue = _Cue(number, start)
        elif line and cue is not None:
            cue.lines.append(html.unescape(_MARK.sub("", _VOICE.sub(r"\1: ", line))).strip())
        elif cue is not None and any(cue.lines):
            yield cue
            cue = None
    if cue is not None:
        yield cue
