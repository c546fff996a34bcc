"""Training jobs as jobs of a real Slurm cluster; losing a node, after which the cluster is not used again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest
from tests.server.launchers.training import STEPS, training
from tests.slurm_cluster import SlurmCluster

from portico.testing.model_fixture import model_fixture, user
from portico_server.core.errors import PorticoError
from portico_server.features.training.training_events import Checkpoint, Metrics, TrainedWeights, TrainLog
from portico_server.models.deployment import Deployment
from portico_server.models.spec import ModelSpec

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(600)]


async def test_a_training_is_a_job_and_continues_after_its_node_killed_it(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    """A training is a job and continues after its node killed it.

    The recipe and the result match those of local training: events on the way, a killed job, and its checkpoint.
    """
    events = []
    killed = False
    async for event in training(tmp_path, launcher="slurm", graded=True):
        events.append(event)
        if isinstance(event, Checkpoint) and not killed:
            killed = True
            assert len(cluster.jobs()) == 1
            [address] = (tmp_path / "home" / "jobs").glob("*/address.json")
            _kill_children(json.loads(address.read_text())["pid"])
    assert isinstance(events[-1], TrainedWeights)
    assert (events[-1].path / "adapter_config.json").is_file()
    assert [event.step for event in events if isinstance(event, Metrics)][-1] == STEPS
    assert any(
        "was killed by SIGKILL; it continues" in event.message
        for event in events
        if isinstance(event, TrainLog)
    )
    cluster.wait_until_empty()


async def test_a_training_on_several_nodes_is_one_job_with_a_process_on_each(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    events = []
    async for event in training(tmp_path, nodes=2, launcher="slurm"):
        events.append(event)
    assert isinstance(events[-1], TrainedWeights)
    assert (events[-1].path / "adapter_config.json").is_file()
    assert [event.step for event in events if isinstance(event, Metrics)] == list(range(1, STEPS + 1))
    [*_others, last] = [event for event in events if isinstance(event, Checkpoint)]
    chances = sorted(path.name for path in last.path.glob("rng_state*"))
    assert chances == ["rng_state_0.pth", "rng_state_1.pth"], "each process has its own"
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
        deployment = models.registry.get("m")
        assert (
            isinstance(deployment, Deployment)
            and deployment.running is not None
            and deployment.running.process is not None
        )
        process = deployment.running.process
        [address] = (tmp_path / "jobs").glob("*/address.json")
        cluster.lose_node(json.loads(address.read_text())["pid"])
        with pytest.raises(PorticoError):
            await models.ask("m", {"messages": user("x")})
        assert "was lost" in process.exit_description()
        assert (await models.ask("m", {"messages": user("elsewhere")}))["choices"]
