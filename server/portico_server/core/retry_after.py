"""``Retry-After``, as other servers send it."""

from __future__ import annotations

import contextlib
import math
from email.utils import parsedate_to_datetime
from time import time
from typing import Final

MAX_RETRY_AFTER_S: Final = 86_400.0
"""Seconds for which another server's wish counts."""


def retry_after_s(header: str | None) -> float | None:
    """Seconds to stay away, up to a day, of a header in seconds or as a date; ``None`` if it says neither.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    seconds = math.nan
    with contextlib.suppress(ValueError):
        seconds = float(header or "")
    if math.isnan(seconds):
        with contextlib.suppress(ValueError, OverflowError):
            seconds = parsedate_to_datetime(header or "").timestamp() - time()
    return None if math.isnan(seconds) else min(max(0.0, seconds), MAX_RETRY_AFTER_S)
