"""What of our environment a child process gets."""

from __future__ import annotations

import os

from portico_server.interpreter import SAFE_PATH

_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")
"""Ends of names whose values no model and no training has any business with."""


def inherited(*without: str) -> dict[str, str]:
    """Our environment less our own settings, secrets, and what begins with one of the prefixes ``without``.

    Interpreters that the child starts keep the current folder off their module path.
    """
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PORTICO_", *without)) and not name.upper().endswith(_SECRET)
    }
    return {**ours, **SAFE_PATH}
