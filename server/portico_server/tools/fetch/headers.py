"""What a header that a tool sends may hold."""

from __future__ import annotations

import re
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def is_unsafe(value: str) -> bool:
    """Whether a value has control characters: a line break would begin another header (RFC 9110, 5.5)."""
    return _CONTROL.search(value) is not None
