"""Trainings as jobs of a real Slurm cluster; and a node that is lost, after which this cluster is used no more."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest
from tests.server.finetune.child import bases
from tests.slurm_cluster import SlurmCluster

from portico.testing.model_fixture import model_fixture, user
from portico_server.core.errors import PorticoError
from portico_server.finetune.local_trainer import LocalTrainer
from portico_server.finetune.spec import Checkpoint, Metrics, TrainedWeights, TrainLog
from portico_server.launchers.launchers import Launchers
from portico_server.models.deployment import Deployment
from portico_server.models.spec import ModelSpec
from portico_server.settings import load
from portico_server.tools.sandbox.light import LightSandbox

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(600)]

EXAMPLES = [
    {"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "yes"}], "tools": []}
    for n in range(24)
]


async def test_a_training_is_a_job_and_continues_after_its_node_killed_it(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    """The same recipe and the same result as at home: events on the way, a killed job, and its checkpoint."""
    home = tmp_path / "home"
    launchers = Launchers(load({"home": str(home), "launcher": "slurm"}, {}).settings)
    made = LocalTrainer(bases.Shop(), LightSandbox(), tmp_path / "logs", nice=0, find_launcher=launchers.get)
    asked = bases.task(tmp_path / "job", bases.tiny(), EXAMPLES, steps=12, eval_interval=3)
    seen = []
    killed = False
    try:
        async for event in made.train(asked, bases.Alone()):
            seen.append(event)
            if isinstance(event, Checkpoint) and not killed:
                killed = True
                assert len(cluster.jobs()) == 1
                [address] = (home / "jobs").glob("*/address.json")
                _kill_children(json.loads(address.read_text())["pid"])
    finally:
        await launchers.close()
    assert isinstance(seen[-1], TrainedWeights)
    assert (seen[-1].path / "adapter_config.json").is_file()
    assert [event.step for event in seen if isinstance(event, Metrics)][-1] == 12
    assert any(
        "was killed by SIGKILL; it continues" in event.message
        for event in seen
        if isinstance(event, TrainLog)
    )
    cluster.wait_until_empty()


def _kill_children(agent: int) -> None:
    for child in psutil.Process(agent).children():
        os.kill(child.pid, signal.SIGKILL)


async def test_a_lost_node_is_one_error_and_the_model_answers_elsewhere(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    async with model_fixture(tmp_path) as models:
        await models.models.add(ModelSpec("m", "fake://", launcher="slurm"))
        await models.models.load("m")
        found = models.registry.get("m")
        assert (
            isinstance(found, Deployment) and found.running is not None and found.running.process is not None
        )
        process = found.running.process
        [address] = (tmp_path / "jobs").glob("*/address.json")
        cluster.lose_node(json.loads(address.read_text())["pid"])
        with pytest.raises(PorticoError):
            await models.ask("m", {"messages": user("x")})
        assert "was lost" in process.exit_description()
        assert (await models.ask("m", {"messages": user("elsewhere")}))["choices"]
