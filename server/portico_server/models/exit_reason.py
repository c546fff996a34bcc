"""Finds the reason for a program's exit at the end of its log. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

MAX_REASON_CHARS = 500
"""Maximum length of a quoted reason, in characters."""

MAX_REASON_LINES = 1_000
"""Number of lines at the end of a log that are searched for a reason."""

ReportStage = Callable[[str, int | None], None]
"""Callback for a stage of a start, and its percentage if known."""

_POINTS = re.compile(
    r"root cause|(?:see|check) (?:the )?(?:stack ?trace|traceback|(?:server |error )?logs?|errors?)\b"
    r"|background process|initiali[sz]ation failed|died unexpectedly",
    re.IGNORECASE,
)
"""Phrases with which one process of a program refers to an error that another process has already reported."""

_ERROR = re.compile(r"\b[A-Z]\w*(?:Error|Exception): .+")


_ASIDE = re.compile(
    r"Warning\b|resource_tracker|warnings\.warn|destroy_process_group|leaked \w+|Exception ignored in"
    r"|Aborted|core dumped|Shutting down",
    re.IGNORECASE,
)
"""Lines that a program writes on exit, regardless of the reason."""


def exit_reason(lines: Iterable[str]) -> str:
    """Return the last informative line, or the earlier error that this line refers to; empty if no line is
    informative.
    """
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
