"""Names of files that clients send: the rule that the daemon and its clients share, with the daemon's error."""

from __future__ import annotations

from portico._filenames import (
    DEVICE,
    MAX_FILENAME_BYTES,
    MAX_PART_BYTES,
    filename_problem,
    to_filename,
)
from portico_server.core.errors import InvalidRequest

__all__ = ["DEVICE", "MAX_FILENAME_BYTES", "MAX_PART_BYTES", "check_filename", "to_filename"]


def check_filename(name: str, param: str = "file") -> str:
    """Return the name unchanged if it is valid: a relative path in any script, including emoji.

    Raise `InvalidRequest` for any other name.
    """
    problem = filename_problem(name)
    if problem:
        shown_name = name[:80].encode("unicode_escape").decode("ascii")
        raise InvalidRequest(
            f"The file name '{shown_name}' {problem}. Rename the file and send it again.",
            code="invalid_filename",
            param=param,
        )
    return name
