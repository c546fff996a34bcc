"""Engines and training jobs that belong to actors of a real Ray cluster, protected by a token."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.ray_cluster import HEAD, WORKER, RayCluster, ray_cluster
from tests.server.launchers.reading import reads_documents
from tests.server.launchers.training import STEPS, training

from portico import Client, Conflict
from portico.testing.model_fixture import model_fixture
from portico_server.core.errors import Unavailable
from portico_server.features.training.training_events import Metrics, TrainedWeights
from portico_server.launchers import ray as ray_launcher
from portico_server.launchers.protocol import LaunchOrder
from portico_server.launchers.remote import RemoteLauncher
from portico_server.models.spec import ModelSpec
from portico_server.settings import load as load_settings

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayCluster]:
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _nothing_left(nodes: RayCluster) -> Iterator[None]:
    """Wait after each test until all of its actors have ended."""
    yield
    nodes.wait_until(lambda: not nodes.actors())


@pytest.fixture(scope="module")
def daemon(nodes: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemons.running(tmp_path_factory.mktemp("home") / "h", env=variables(nodes)) as running_daemon:
        yield running_daemon


def variables(nodes: RayCluster) -> Mapping[str, str]:
    """Return the settings of a daemon that uses the cluster."""
    return {f"PORTICO_{name.upper()}": value for name, value in nodes.settings.items()}


def load(daemon: Daemon, name: str, **more: Any) -> httpx.Response:
    """Let a daemon run a scripted model."""
    body = {"name": name, "source": "fake://", **more}
    assert httpx.post(f"{daemon.url}/api/deployments", json=body).status_code == 200
    return httpx.post(f"{daemon.url}/api/deployments/{name}/load")


def ask(daemon: Daemon, name: str, words: str) -> httpx.Response:
    body = {"model": name, "messages": [{"role": "user", "content": words}]}
    return httpx.post(f"{daemon.url}/v1/chat/completions", json=body)


def unload(daemon: Daemon, name: str) -> None:
    assert httpx.post(f"{daemon.url}/api/deployments/{name}/unload").status_code == 200


def agents(home: Path) -> dict[str, Any]:
    """Return where the agent of each job serves, by model name."""
    return {
        json.loads(path.read_text())["name"]: json.loads(path.with_name("address.json").read_text())
        for path in (home / "jobs").glob("*/job.json")
    }


def test_a_model_answers_from_an_actor_and_is_gone_when_it_is_unloaded(
    daemon: Daemon, nodes: RayCluster
) -> None:
    assert load(daemon, "m").json()["state"] == "ready"
    assert ask(daemon, "m", "from a node").json()["choices"][0]["message"]["content"] == "from a node"
    assert len(nodes.actors()) == 1
    agent = psutil.Process(agents(daemon.home)["m"]["pid"])
    [engine] = agent.children()
    assert "RAY_AUTH_TOKEN" not in engine.environ(), "the cluster's token is not for engines"
    unload(daemon, "m")
    nodes.wait_until(lambda: not agent.is_running() and not engine.is_running())
    assert not list((daemon.home / "jobs").glob("*"))


async def test_a_job_avoids_a_lost_node_that_ray_still_counts(nodes: RayCluster, tmp_path: Path) -> None:
    """A job avoids a node that Ray still counts, unless no other node can run the job."""
    backend = ray_launcher.backend(load_settings({"home": str(tmp_path), **nodes.settings}, {}).settings)
    launcher = RemoteLauncher(backend, tmp_path / "jobs", lease_s=60.0, queue_s=60.0)
    order = LaunchOrder("m", ["sleep", "600"], tmp_path / "log")
    try:
        names = {node.address: node.name for node in await backend.nodes()}
        for lost_host, hosts in ((HEAD, {WORKER}), (WORKER, {HEAD, WORKER})):
            launcher.avoid(names[lost_host])
            process = await launcher.launch(order)
            assert process.host in hosts
            await process.stop(0)
    finally:
        await launcher.close()


def test_resources_that_no_node_has_are_refused_with_the_available_ones(daemon: Daemon) -> None:
    response = load(daemon, "large", resources={"gpus": 1, "gpu_type": "H100"})
    assert response.status_code == 503
    error = response.json()["error"]
    assert error["code"] == "launch_refused"
    assert "no node of the cluster has CPU 1, GPU 1, H100 (nodes have CPU 1, " in error["message"]
    assert not list((daemon.home / "jobs").glob("*"))


@pytest.mark.parametrize(
    ("setting", "code", "words"),
    [
        ({"ray_python": ""}, "launcher_missing", "needs the setting 'ray_python'"),
        ({"ray_address": "127.0.0.2:9"}, "launcher_silent", "at '127.0.0.2:9' cannot be joined"),
        ({"ray_address": "ray://127.0.0.2:10001"}, "setting_invalid", "must be HOST:PORT or 'auto'"),
        ({"ray_token": "0" * 64}, "launcher_silent", "cannot be joined"),
    ],
)
async def test_a_cluster_that_cannot_be_joined_is_one_error_that_names_the_setting(
    nodes: RayCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: dict[str, str],
    code: str,
    words: str,
) -> None:
    monkeypatch.setattr(ray_launcher, "JOIN_TIMEOUT_S", 3.0)
    async with model_fixture(tmp_path, **{**nodes.settings, **setting}) as models:
        await models.models.add(ModelSpec("m", "fake://"))
        with pytest.raises(Unavailable) as error:
            await models.models.load("m")
    assert error.value.code == code
    assert words in error.value.message
    assert next(iter(setting)) in error.value.message


async def test_a_silent_server_that_is_not_ray_is_one_error(
    nodes: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_launcher, "JOIN_TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with model_fixture(tmp_path, **{**nodes.settings, "ray_address": address}) as models:
            await models.models.add(ModelSpec("m", "fake://"))
            with pytest.raises(Unavailable, match="could not join through this address within 1 s"):
                await models.models.load("m")


async def test_a_training_belongs_to_an_actor(nodes: RayCluster, tmp_path: Path) -> None:
    events = []
    actors = set()
    async for event in training(tmp_path, **nodes.settings):
        events.append(event)
        actors |= {actor.pid for actor in nodes.actors()}
    assert isinstance(events[-1], TrainedWeights)
    assert (events[-1].path / "adapter_config.json").is_file()
    assert [event.step for event in events if isinstance(event, Metrics)][-1] == STEPS
    assert len(actors) == 1


def test_every_document_is_read_once_although_ray_workers_are_killed(
    nodes: RayCluster, tmp_path: Path
) -> None:
    settings = {**variables(nodes), "PORTICO_LAUNCHER": "local", "PORTICO_INGEST_LAUNCHER": "ray"}
    with daemons.running(tmp_path / "home", env=settings) as daemon:
        reads_documents(daemon, tmp_path / "documents", "ray", nodes.wait_until)


def test_a_restarted_daemon_takes_over_the_engine_of_a_killed_one(nodes: RayCluster, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with daemons.running(home, env=variables(nodes)) as first:
        assert load(first, "kept").json()["state"] == "ready"
        first.stop(signal.SIGKILL)
    agent_before = agents(home)["kept"]
    with daemons.running(home, env=variables(nodes)) as second:
        answer = ask(second, "kept", "still here").json()
        assert answer["choices"][0]["message"]["content"] == "still here"
        assert agents(home)["kept"] == agent_before
        assert len(nodes.actors()) == 1


def test_the_model_of_a_node_that_is_drained_moves_and_the_node_leaves(
    daemon: Daemon, nodes: RayCluster
) -> None:
    for name in ("c", "d"):  # one core each: one on each node
        assert load(daemon, name).json()["state"] == "ready"
    [moving] = [name for name, agent in agents(daemon.home).items() if agent["host"] == WORKER]
    [other_model] = {"c", "d"} - {moving}
    unload(daemon, other_model)
    with Client(daemon.url) as client:

        def states() -> dict[str, str]:
            return {node.address: node.state for node in client.cluster.status().launchers[1].nodes}

        nodes.wait_until(lambda: states() == {HEAD: "idle", WORKER: "busy"})
        with pytest.raises(Conflict, match="it is the head"):
            client.cluster.drain("ray", HEAD, "New disks")
        assert client.cluster.drain("ray", WORKER, "New disks").moves == (moving,)
        nodes.wait_until_drained(WORKER, lambda: states() == {HEAD: "busy", WORKER: "drained"})
        assert agents(daemon.home)[moving]["host"] == HEAD
        assert (
            ask(daemon, moving, "from the head").json()["choices"][0]["message"]["content"] == "from the head"
        )
        with pytest.raises(Conflict, match="ray start --address"):
            client.cluster.resume("ray", WORKER)
        nodes.start_worker()
        nodes.wait_until(
            lambda: [node.state for node in client.cluster.status().launchers[1].nodes].count("idle")
        )
        unload(daemon, moving)


def test_a_lost_node_is_at_most_one_error_and_the_model_answers_elsewhere(
    daemon: Daemon, nodes: RayCluster
) -> None:
    """At most one call fails after the loss of a node. This test must be the last on this cluster."""
    for name in ("a", "b"):  # one core each: one on each node
        assert load(daemon, name).json()["state"] == "ready"
    [lost_model] = [name for name, agent in agents(daemon.home).items() if agent["host"] == WORKER]
    [other_model] = {"a", "b"} - {lost_model}
    unload(daemon, other_model)
    nodes.kill_raylet(WORKER)
    answer = ask(daemon, lost_model, "x").json()
    # The daemon may have noticed the loss before the call, and then answers from elsewhere at once.
    assert "choices" in answer or lost_model in answer["error"]["message"]
    assert ask(daemon, lost_model, "elsewhere").json()["choices"][0]["message"]["content"] == "elsewhere"
    assert agents(daemon.home)[lost_model]["host"] != WORKER
    unload(daemon, lost_model)
