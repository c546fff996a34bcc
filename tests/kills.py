"""How often the tests that kill a process do so."""

from __future__ import annotations

import os

LONG_KILLS = 20
"""Number of kills with ``PORTICO_TEST_LONG``."""


def count_kills(default: int) -> int:
    """Return the number of times that a test kills its victim; ``PORTICO_TEST_KILLS`` overrides all else."""
    if number := os.environ.get("PORTICO_TEST_KILLS"):
        return int(number)
    return LONG_KILLS if os.environ.get("PORTICO_TEST_LONG") else default
