"""Subtitles (srt, vtt): one part per cue, with the time of the cue in seconds."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers.text import open_text

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
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
        began: float | None = None
        at = 0
        spoken_lines: list[str] = []
        for number, raw in enumerate(text, start=1):
            line = raw.strip().replace("\x00", "")
            if (cue := _CUE.match(line)) is not None:
                hours, minutes, seconds, fraction = cue.groups()[:4]
                began = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction}")
                at, spoken_lines = number, []
            elif line and began is not None:
                spoken_lines.append(html.unescape(_MARK.sub("", _VOICE.sub(r"\1: ", line))).strip())
            elif not line and began is not None and any(spoken_lines):
                has_parts = True
                yield writer.part(" ".join(spoken_lines), line=at, seconds=began)
                began, spoken_lines = None, []
        if began is not None and any(spoken_lines):
            has_parts = True
            yield writer.part(" ".join(spoken_lines), line=at, seconds=began)
    if not has_parts:
        raise Unreadable("contains no cues: no line such as '00:01:02,000 --> 00:01:04,000' was found.")
