"""Why a program ended, as the end of its log says it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

MAX_REASON_CHARS = 500
"""Characters that are quoted."""

MAX_REASON_LINES = 1_000
"""Last lines of a log in which a reason is looked for."""

ReportStage = Callable[[str, int | None], None]
"""Hears of a stage of a start, and its percentage if it is known."""

_POINTS = re.compile(
    r"root cause|(?:see|check) (?:the )?(?:stack ?trace|traceback|(?:server |error )?logs?|errors?)\b"
    r"|background process|initiali[sz]ation failed|died unexpectedly",
    re.IGNORECASE,
)
"""What a program of several processes says of an error that another one has told of before."""

_ERROR = re.compile(r"\b[A-Z]\w*(?:Error|Exception): .+")


_ASIDE = re.compile(
    r"Warning\b|resource_tracker|warnings\.warn|destroy_process_group|leaked \w+|Exception ignored in"
    r"|Aborted|core dumped|Shutting down",
    re.IGNORECASE,
)
"""What a program writes while it ends, whatever it ends of."""


def exit_reason(lines: Iterable[str]) -> str:
    """The last line that says something, or the error before it that it points to; empty if nothing was said."""
    output_lines = [line.strip() for line in lines if line.strip()]
    telling_lines = [line for line in output_lines if not _ASIDE.search(line)] or output_lines
    if not telling_lines:
        return ""
    if telling_lines[-1] != output_lines[-1] or _POINTS.search(telling_lines[-1]):
        for line in reversed(telling_lines):
            match = _ERROR.search(line)
            if match is not None and not _POINTS.search(line):
                return match.group()[:MAX_REASON_CHARS]
    return telling_lines[-1][:MAX_REASON_CHARS]
