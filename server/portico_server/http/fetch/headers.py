"""Checks the headers that a tool sends."""

from __future__ import annotations

import re
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def is_unsafe(value: str) -> bool:
    """Return whether a value has control characters: a line break would start another header (RFC 9110, 5.5)."""
    return _CONTROL.search(value) is not None
