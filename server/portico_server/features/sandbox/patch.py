"""Diffs as models write them for ``apply_patch``: hunks of kept, removed and added lines, located by their context.

Pure: texts in, a text out. Source: the V4A form of OpenAI's guide to ``apply_patch``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest

MAX_DIFF_CHARS: Final = 1_000_000
MAX_FILE_CHARS: Final = 4_000_000
MAX_HUNKS: Final = 1_000
MAX_COMPARED_LINES: Final = 2_000_000
"""Maximum number of line comparisons before a patch is abandoned, after about a second."""
END: Final = "*** End of File"


@dataclass(slots=True)
class _Hunk:
    """Existing lines and their replacement. The lines follow a line that begins with each ``anchor``, in order."""

    anchors: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    at_end: bool = False


def created(diff: str) -> str:
    """Return the text of a new file: each line of the diff begins with ``+``. Raise `InvalidRequest`."""
    lines = _lines(diff)
    wrong = next((number for number, line in enumerate(lines, 1) if not line.startswith("+")), None)
    if wrong is not None:
        raise _invalid(f"line {wrong} of the diff of a new file does not begin with '+'")
    return "".join(f"{line[1:]}\n" for line in lines)


def patched(text: str, diff: str) -> str:
    """Return the text with the hunks of a diff applied in order. Raise `InvalidRequest` for a hunk that does not
    match.
    """
    if len(text) > MAX_FILE_CHARS:
        raise _invalid(f"the file has more than {MAX_FILE_CHARS:,} characters")
    ending = "\r\n" if "\r\n" in text else "\n"
    lines = text.replace("\r\n", "\n").split("\n")
    search = _Search()
    at = 0
    for hunk in _hunks(_lines(diff)):
        for anchor in hunk.anchors:
            at = search.find([anchor], lines, at, anchor=True) + 1
        if not hunk.before:
            place = len(lines) - (lines[-1] == "") if hunk.at_end or not hunk.anchors else at
        elif hunk.at_end:
            place = search.find(hunk.before, lines, max(at, len(lines) - len(hunk.before) - 1))
        else:
            place = search.find(hunk.before, lines, at)
        lines[place : place + len(hunk.before)] = hunk.after
        at = place + len(hunk.after)
    return ending.join(lines)


def _lines(diff: str) -> list[str]:
    if len(diff) > MAX_DIFF_CHARS:
        raise _invalid(f"the diff has more than {MAX_DIFF_CHARS:,} characters")
    lines = diff.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines and lines[-1] == "" else lines


def _hunks(lines: Sequence[str]) -> list[_Hunk]:
    hunks: list[_Hunk] = []
    hunk = _Hunk()
    for line in lines:
        if line.startswith("@@"):
            if hunk.before or hunk.after:
                hunks.append(hunk)
                hunk = _Hunk()
            anchor = line[2:].strip()
            # The line numbers of a unified diff are the model's guess. The context of a hunk determines its
            # place.
            if anchor and not (anchor.startswith("-") and anchor.endswith("@@")):
                hunk.anchors.append(anchor)
        elif line == END:
            hunk.at_end = True
        elif line.startswith(("--- ", "+++ ")) and not (hunk.before or hunk.after):
            continue
        elif line[:1] in ("", " "):
            hunk.before.append(line[1:])
            hunk.after.append(line[1:])
        elif line[0] == "-":
            hunk.before.append(line[1:])
        elif line[0] == "+":
            hunk.after.append(line[1:])
        else:
            raise _invalid(f"a line of the diff begins with neither ' ', '-', '+' nor '@@': '{line[:80]}'")
    hunks.append(hunk)
    if not any(entry.before or entry.after for entry in hunks):
        raise _invalid("the diff changes nothing")
    if len(hunks) > MAX_HUNKS:
        raise _invalid(f"the diff has more than {MAX_HUNKS:,} hunks")
    return hunks


class _Search:
    """Finds lines, up to a maximum number of comparisons."""

    def __init__(self) -> None:
        self._remaining_lines = MAX_COMPARED_LINES

    def find(
        self, wanted_lines: Sequence[str], lines: Sequence[str], start: int, *, anchor: bool = False
    ) -> int:
        """Return the position of ``wanted_lines``, searching from ``start`` on.

        An exact match takes precedence over a match that ignores white space at the ends of lines.
        """
        for fold_line in (str, str.rstrip, str.strip):
            folded_lines = [fold_line(line) for line in wanted_lines]
            for at in range(start, len(lines) - len(wanted_lines) + 1):
                if self._is_there(folded_lines, lines, at, fold_line):
                    return at
        if anchor and start:
            return self.find(wanted_lines, lines, 0, anchor=True)
        raise _invalid(
            "these lines of the diff are not in the file:\n" + "\n".join(wanted_lines[:20])[:2_000]
        )

    def _is_there(
        self, folded_lines: Sequence[str], lines: Sequence[str], at: int, fold_line: Callable[[str], str]
    ) -> bool:
        for place, line in enumerate(folded_lines, at):
            self._remaining_lines -= 1
            if self._remaining_lines < 0:
                raise _invalid(
                    "finding the places of the hunks takes too long; send fewer hunks, with lines that are "
                    "rare"
                )
            if fold_line(lines[place]) != line:
                return False
        return True


def _invalid(problem: str) -> InvalidRequest:
    return InvalidRequest(f"The patch does not apply: {problem}.", code="invalid_patch", param="diff")
