"""Whole numbers in texts from outside."""

from __future__ import annotations

import re

import pytest
from tests.daemon import ROOT

from portico_server.core.words import whole_number

NAMES_ALONE = {
    *("core/words.py", "api/openai/form.py", "models/openai_wire.py", "tools/fetch/client.py"),
    *("knowledge/links/rules.py", "guards/detectors.py"),
    *("apps/answer/differences.py", "apps/answer/claims.py", "apps/answer/terms.py", "apps/answer/facts.py"),
}
"""Where no number is made of what consists of digits."""

OWN = {
    *(
        "launchers/slurm.py",
        "models/hardware.py",
        "environments/build.py",
    ),  # programs and files of this machine
    *(
        "models/engines/transformers/worker/draw.py",
        "models/engines/transformers/worker/server.py",
    ),  # the daemon
    "archives/tar.py",  # ten bytes at most
}


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1_000", "1.0", "\u00b2", "\u0663", "9" * 19, "9" * 5_000]
)
def test_what_is_no_number_of_at_most_eighteen_digits_is_none(text: str) -> None:
    assert whole_number(text) is None


def test_a_number_is_read() -> None:
    assert (whole_number("0"), whole_number("007"), whole_number("9" * 18)) == (0, 7, 10**18 - 1)
    assert (whole_number("123", 3), whole_number("1234", 3)) == (123, None)


def test_no_other_code_asks_whether_a_text_from_outside_is_digits() -> None:
    """``int`` refuses what ``isdigit`` allows, and raises for thousands of digits: `whole_number` knows both."""
    server = ROOT / "server" / "portico_server"
    found = {
        str(file.relative_to(server))
        for file in server.rglob("*.py")
        if re.search(r"\.is(?:digit|decimal|numeric)\(", file.read_text())
    }
    assert found == NAMES_ALONE | OWN, "read it with core.words.whole_number"
