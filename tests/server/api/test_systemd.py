"""The systemd unit: systemd itself accepts it, and the daemon accepts its command."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[3] / "configs" / "systemd" / "portico.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_accepts_the_unit_file(tmp_path: Path) -> None:
    unit_copy = tmp_path / UNIT.name
    unit_copy.write_text(UNIT.read_text().replace("/opt/portico/bin/python", sys.executable))
    shutil.copy(UNIT.with_suffix(".socket"), tmp_path)
    result = subprocess.run(
        ["systemd-analyze", "verify", str(unit_copy)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_the_daemon_accepts_the_command_of_the_unit_file() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNIT)
    command = unit["Service"]["ExecStart"].split()
    assert command[1:4] == ["-P", "-m", "portico_server"]
    help_text = subprocess.run(
        [sys.executable, *command[1:5], "--help"], capture_output=True, text=True, check=True
    ).stdout
    for option in [word for word in command if word.startswith("--")]:
        assert option in help_text
