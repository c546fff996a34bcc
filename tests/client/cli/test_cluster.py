"""`portico cluster` and `Client.cluster` against a daemon with a stand-in for Slurm's commands."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests import daemon as daemons
from tests.client.cli.conftest import Command
from tests.daemon import Daemon
from tests.slurm_standin import SlurmStandIn


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> SlurmStandIn:
    return SlurmStandIn(tmp_path_factory.mktemp("slurm") / "bin")


@pytest.fixture(scope="module")
def daemon(slurm: SlurmStandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    variables = {
        "PATH": f"{slurm.folder}{os.pathsep}{os.environ['PATH']}",
        "PORTICO_SLURM_PARTITION": "gpu",
        "PORTICO_RAY_PYTHON": "/nowhere/python",
    }
    with daemons.running(tmp_path_factory.mktemp("home") / "h", env=variables) as running:
        yield running


def test_machines_are_shown_drained_and_resumed(command: Command, slurm: SlurmStandIn) -> None:
    assert command("models", "add", "m", "--source", "fake://").code == 0
    assert command("models", "load", "m").code == 0
    status_table = command("cluster", "status")
    lines = [line.split("\t") for line in status_table.out.splitlines()]
    assert ["slurm", "g1", "busy (mixed)", "8 of 64", "62.5 of 500 GB", "1 of 4 a100", ""] in lines
    assert [
        "slurm",
        "g2",
        "down (down*)",
        "0 of 64",
        "0 of 500 GB",
        "0 of 4 a100",
        "power State=IDLE, rack 4",
    ] in lines
    assert any(line[:3] == ["m", "running", "local"] for line in lines)
    assert "ray: The launcher 'ray' needs the setting 'ray_python'" in status_table.err
    status_data = command("cluster", "status", "--json").json
    assert [launcher["name"] for launcher in status_data["launchers"]] == ["local", "ray", "slurm"]
    assert status_data["jobs"][0]["daemon"] == status_data["daemons"][0]["id"]

    planned = command("cluster", "drain", "g1", "--reason", "New disks", "--dry-run")
    assert planned.out == "Would drain g1 of slurm.\n" and not slurm.updates
    done = command("cluster", "drain", "g1.intern", "--reason", "New disks")
    assert done.out == "g1 of slurm is drained: New disks\n", done.err
    assert command("cluster", "resume", "g1", "--json").json["state"] == "idle"
    nobody = command("cluster", "drain", "g9", "--reason", "x")
    assert nobody.code == 1 and "No launcher has a node 'g9'" in nobody.err and "ray:" in nobody.err
    [node] = status_data["launchers"][0]["nodes"]
    local = command("cluster", "drain", node["name"], "--reason", "x")
    assert local.code == 1 and "has no scheduler to drain it" in local.err
