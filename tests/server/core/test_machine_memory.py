"""The memory that the daemon can fill: the machine's, or the limit of its control group."""

from __future__ import annotations

import psutil
import pytest

from portico_server.core.machine_memory import machine_memory, parse_memory_limit


@pytest.mark.parametrize(("text", "limit"), [("max\n", 8), ("4\n", 4), ("9223372036854771712\n", 8), ("", 8)])
def test_a_control_group_limits_memory(text: str, limit: int) -> None:
    assert parse_memory_limit(text, 8) == limit


def test_the_memory_is_at_most_the_machines() -> None:
    assert 0 < machine_memory() <= psutil.virtual_memory().total
