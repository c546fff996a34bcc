"""The screen Machines, with a daemon that uses a stand-in for Slurm's commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests import daemon as daemons
from tests.slurm_standin import SlurmStandIn
from tests.tui.terminal import terminal
from tests.tui.test_screens import pick, said

from portico import Client
from portico_tui.screens.machines import ClusterDaemonsScreen, ProcessesScreen


@pytest.mark.slow
async def test_a_node_is_drained_and_resumed_and_processes_and_daemons_are_listed(tmp_path: Path) -> None:
    slurm = SlurmStandIn(tmp_path / "bin")
    variables = {
        "PATH": f"{slurm.folder}{os.pathsep}{os.environ['PATH']}",
        "PORTICO_SLURM_PARTITION": "gpu",
        "PORTICO_RAY_PYTHON": "/nowhere/python",
    }
    with daemons.running(tmp_path / "home", env=variables) as daemon:
        with Client(daemon.url) as client:
            client.deployments.add("m", "fake://")
            client.deployments.load("m")
        async with terminal(daemon.url) as screen:
            await screen.go("machines")
            await pick(screen, "machines", 0, "g2")
            assert screen.row("#rows", "g2")[2:6] == ["down (down*)", "0 of 64", "0 of 500 GB", "0 of 4 a100"]
            assert "power State=IDLE, rack 4" in said(screen, "#detail")
            assert "ray: The launcher 'ray' needs the setting" in said(screen, "#detail")
            await pick(screen, "machines", 0, "g1")
            await screen.press("d")
            await screen.fill(reason="New disks")
            await screen.until(lambda: screen.row("#rows", "g1")[2:3] == ["drained (idle+drain)"])
            assert slurm.updates == ["NodeName=g1 State=DRAIN Reason=New disks"]
            await pick(screen, "machines", 0, "g1")
            await screen.press("e")
            await screen.until(lambda: screen.row("#rows", "g1")[2:3] == ["idle"])
            await screen.press("enter")
            await screen.over(ProcessesScreen)
            await screen.until(lambda: screen.row("#rows", "m")[1:3] == ["running", "local"])
            await screen.press("escape", "b")
            await screen.over(ClusterDaemonsScreen)
            await screen.until(lambda: any(row[1] == daemon.url for row in screen.rows("#rows")))
