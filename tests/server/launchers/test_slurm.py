"""Engines and training jobs as jobs of a real Slurm cluster."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import pytest
from tests import daemon as daemons
from tests import postgres
from tests.daemon import Daemon
from tests.server.daemons import end, start
from tests.server.features.gpu_engines.external.interpreter import interpreter, model
from tests.server.launchers.reading import reads_documents
from tests.slurm_cluster import SlurmCluster

from portico import Client
from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico.wire import Event, Progressed
from portico_server.core.errors import PorticoError
from portico_server.models.deployment import Deployment
from portico_server.models.server_process import ServerProcess
from portico_server.models.spec import ModelSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

JOBS = "jobs"


@pytest.fixture
async def models(cluster: SlurmCluster, tmp_path: Path) -> AsyncIterator[ModelFixture]:
    async with model_fixture(tmp_path) as fixture:
        yield fixture


def process_of(models: ModelFixture, name: str = "m") -> ServerProcess:
    deployment = models.registry.get(name)
    assert (
        isinstance(deployment, Deployment)
        and deployment.running is not None
        and deployment.running.process is not None
    )
    return deployment.running.process


def agents(home: Path) -> list[int]:
    """Return the process ids of the agents of the jobs in a home."""
    return [json.loads(path.read_text())["pid"] for path in (home / JOBS).glob("*/address.json")]


def load(daemon: Daemon, name: str) -> None:
    """Let a daemon run a scripted model as a job."""
    body = {"name": name, "source": "fake://", "launcher": "slurm"}
    assert httpx.post(f"{daemon.url}/api/deployments", json=body).status_code == 200
    assert httpx.post(f"{daemon.url}/api/deployments/{name}/load").json()["state"] == "ready"


async def test_a_model_answers_from_a_slurm_job_that_ends_on_unload(
    models: ModelFixture, cluster: SlurmCluster, tmp_path: Path
) -> None:
    await models.models.add(ModelSpec("m", "fake://", launcher="slurm"))
    await models.models.load("m")
    answer = await models.ask("m", {"messages": user("from a node")})
    assert answer["choices"][0]["message"]["content"] == "from a node"
    assert len(cluster.jobs()) == 1
    assert models.models.get("m").pid is None, "it is not a process of this machine's"
    key = httpx.Headers({"Authorization": "Bearer wrong"})
    async with httpx.AsyncClient() as client:
        url = process_of(models).endpoint("m").url
        assert (await client.get(f"{url}/models", headers=key)).status_code == 401
    await models.models.unload("m")
    cluster.wait_until_empty()
    assert not list((tmp_path / JOBS).glob("*")), "nothing of the job is left"


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"partition": "nope"}, "invalid partition specified: nope"),
        ({"gpus": 1, "gpu_type": "h100"}, "Requested node configuration is not available"),
        ({"minutes": 999}, "time limit"),
        ({"cpus": 64}, "More processors requested than permitted"),
    ],
)
async def test_a_job_that_slurm_refuses_is_one_error_with_its_reason(
    models: ModelFixture, cluster: SlurmCluster, resources: dict[str, Any], words: str
) -> None:
    await models.models.add(ModelSpec("m", "fake://", launcher="slurm", resources=resources))
    with pytest.raises(PorticoError) as error:
        await models.models.load("m")
    assert error.value.code == "launch_refused"
    assert words in error.value.message
    assert not cluster.jobs()


@pytest.mark.process
async def test_a_model_on_several_nodes_is_one_job_that_ends_as_a_whole(
    models: ModelFixture, cluster: SlurmCluster, tmp_path: Path
) -> None:
    parameters = {"python": interpreter(tmp_path), "context_length": 512}
    spec = ModelSpec("m", model(tmp_path), engine="vllm", launcher="slurm", parameters=parameters)
    await models.models.add(replace(spec, resources={"nodes": 2, "cpus": 1}))
    await models.models.load("m")
    process = process_of(models)
    assert len(cluster.jobs()) == 1
    log = "\n".join(process.lines(200))
    assert "nodes: [1]" in log
    assert '"--tensor-parallel-size", "1", "--pipeline-parallel-size", "2"' in log
    assert (await models.ask("m", {"messages": user("Hello")}))["choices"]
    [follower] = [
        system_process
        for system_process in psutil.process_iter(["cmdline"])
        if {"--headless", "--pipeline-parallel-size"} <= {*(system_process.info["cmdline"] or ())}
    ]
    follower.kill()
    await process.wait()
    cluster.wait_until_empty()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"engine": "fake", "source": "fake://"},
            "The engine 'fake' runs 'm' on one node. Use the engine 'vllm'",
        ),
        ({"launcher": "local"}, "The launcher 'local' starts the model 'm' on one node. Use 'slurm'"),
        ({"launcher": ""}, "The launcher 'local' starts 'm' on one node. Use 'slurm'"),
        (
            {"parameters": {"pipeline_parallel": 3}},
            "'m' is set to use 3 GPUs, which 2 nodes cannot divide evenly.",
        ),
    ],
)
async def test_an_engine_that_cannot_span_nodes_is_refused(
    models: ModelFixture, cluster: SlurmCluster, tmp_path: Path, spec: dict[str, Any], words: str
) -> None:
    python = {} if spec.get("engine") == "fake" else {"python": interpreter(tmp_path)}
    fields = {"source": model(tmp_path), "engine": "vllm", "launcher": "slurm", **spec}
    fields |= {"parameters": {**python, **spec.get("parameters", {})}, "resources": {"nodes": 2}}

    async def start() -> None:
        await models.models.add(ModelSpec("m", **fields))
        await models.models.load("m")

    with pytest.raises(PorticoError, match=re.escape(words)):
        await start()
    assert not cluster.jobs()


async def test_the_log_of_an_ended_job_is_readable_in_the_daemon(
    models: ModelFixture, cluster: SlurmCluster
) -> None:
    await models.models.add(
        ModelSpec("m", "fake://", launcher="slurm", parameters={"script": {"start": 0.1}})
    )
    await models.models.load("m")
    process = process_of(models)
    await models.models.unload("m")
    assert any("Completed" in line for line in process.lines(100))


@pytest.mark.process
async def test_an_engine_that_is_killed_is_one_error_and_the_next_call_gets_a_new_job(
    models: ModelFixture, cluster: SlurmCluster, tmp_path: Path
) -> None:
    await models.models.add(ModelSpec("m", "fake://", launcher="slurm"))
    await models.models.load("m")
    process = process_of(models)
    jobs_before = cluster.jobs()
    [worker] = _workers(agents(tmp_path))
    os.kill(worker, signal.SIGKILL)
    await process.wait()
    assert "was killed by SIGKILL" in process.exit_description()
    assert (await models.ask("m", {"messages": user("again")}))["choices"]
    assert process_of(models) is not process
    assert not set(jobs_before) & set(cluster.jobs())
    cluster.wait_until(lambda: len(list((tmp_path / JOBS).glob("*"))) == 1)


async def test_a_job_that_slurm_ends_is_one_error_with_its_reason(
    models: ModelFixture, cluster: SlurmCluster
) -> None:
    await models.models.add(ModelSpec("m", "fake://", launcher="slurm"))
    await models.models.load("m")
    process = process_of(models)
    [job] = cluster.jobs()
    cluster.ask("scancel", f"--name={job}")
    await process.wait()
    assert re.search(r"was ended by Slurm \(job \d+: .*CANCELLED", process.exit_description())


@pytest.mark.process
async def test_an_engine_that_ends_before_its_agent_counts_as_ended_by_slurm(
    models: ModelFixture, cluster: SlurmCluster, tmp_path: Path
) -> None:
    """An engine that ends before its agent hears of it still counts as ended by Slurm.

    Slurm signals all processes of a job, in any order.
    """
    await models.models.add(ModelSpec("m", "fake://", launcher="slurm"))
    await models.models.load("m")
    process = process_of(models)
    [agent] = agents(tmp_path)
    [worker] = _workers([agent])
    os.kill(worker, signal.SIGTERM)
    cluster.wait_until(lambda: not psutil.pid_exists(worker))
    os.kill(agent, signal.SIGTERM)
    await process.wait()
    assert "was ended by Slurm" in process.exit_description()


async def test_a_job_waits_with_slurms_reason_and_not_for_ever(cluster: SlurmCluster, tmp_path: Path) -> None:
    cluster.ask("sbatch", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1000")
    cluster.wait_until(lambda: bool(cluster.ask("squeue", "--noheader", "--states=RUNNING")))
    async with model_fixture(tmp_path, launcher="slurm", launcher_queue_timeout=2) as models:
        await models.models.add(ModelSpec("m", "fake://"))
        progress_events: list[Progressed] = []

        async def listen(event: Event) -> None:
            if isinstance(event, Progressed):
                progress_events.append(event)

        deployment = models.registry.get("m")
        assert isinstance(deployment, Deployment)
        with pytest.raises(PorticoError) as error:
            await deployment.pool.processes[0].load(listen)
    cluster.ask("scancel", "--name=wrap")
    assert error.value.code == "queue_timeout"
    assert "after waiting for Slurm for 2 s (" in error.value.message
    assert any(event.stage == "queued" and "waits for Slurm (" in event.message for event in progress_events)


async def test_a_job_is_replaced_before_its_time_limit(cluster: SlurmCluster, tmp_path: Path) -> None:
    async with model_fixture(tmp_path, launcher="slurm", launcher_replace=55) as models:
        await models.models.add(ModelSpec("m", "fake://", resources={"minutes": 1}))
        await models.models.load("m")
        first = process_of(models)
        assert first.ends_at is not None
        await first.wait()
        assert first.exit_description() != "was ended by Slurm", "it was stopped once another one was there"
        assert process_of(models) is not first
        assert (await models.ask("m", {"messages": user("x")}))["choices"]
        assert models.models.get("m").crashes == 0


@pytest.mark.process
def test_a_restarted_daemon_takes_over_engines_and_ends_those_of_removed_models(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    with daemons.running(home, env=cluster.environment) as first:
        for name in ("kept", "gone"):
            load(first, name)
        jobs = {
            path.parent.name: orjson.loads(path.read_bytes())["name"]
            for path in (home / JOBS).glob("*/job.json")
        }
        first.stop(signal.SIGKILL)
    assert sorted(jobs.values()) == ["gone", "kept"]
    _forget(home, "gone")
    with daemons.running(home, env=cluster.environment) as second:
        assert httpx.post(f"{second.url}/api/deployments/kept/load").json()["state"] == "ready"
        [job_id] = [job for job, name in jobs.items() if name == "kept"]
        cluster.wait_until(lambda: cluster.jobs() == [job_id])
        body = {"model": "kept", "messages": user("still here")}
        answer = httpx.post(f"{second.url}/v1/chat/completions", json=body).json()
        assert answer["choices"][0]["message"]["content"] == "still here"


def test_the_models_of_a_node_that_is_drained_move_to_the_other(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as running:
        database = running.enter_context(postgres.running()).new()
        first_daemon, second_daemon = (
            start(tmp_path, name, database, "models: []\n", **cluster.environment) for name in "ab"
        )
        running.callback(end, first_daemon, second_daemon)
        client = running.enter_context(Client(first_daemon.url))
        load(first_daemon, "m")

        def where(name: str = "m") -> list[str]:
            jobs = client.cluster.status().jobs
            return [job.node for job in jobs if job.state == "running" and job.name == name]

        def nodes() -> dict[str, str]:
            return {node.name: node.state for node in client.cluster.status().launchers[1].nodes}

        def answers(daemon: Daemon) -> bool:
            body = {"model": "m", "messages": user("from the other")}
            answer = httpx.post(f"{daemon.url}/v1/chat/completions", json=body)
            return bool(answer.json()["choices"][0]["message"]["content"] == "from the other")

        [first] = where()
        [other_node] = {"n1", "n2"} - {first}
        assert nodes() == {first: "busy", other_node: "idle"}
        assert httpx.post(f"{second_daemon.url}/api/deployments/m/load").json()["state"] == "ready"
        cluster.wait_until(lambda: len(where()) == 2)
        assert where() == [first, first]
        planned = client.cluster.drain("slurm", first, "New disks", dry_run=True)
        assert planned.moves == ("m",) and nodes()[first] == "busy"
        assert client.cluster.drain("slurm", first, "New disks").moves == ("m",)
        cluster.wait_until(lambda: where() == [other_node, other_node])
        cluster.wait_until(lambda: nodes() == {first: "drained", other_node: "busy"})
        assert answers(first_daemon) and answers(second_daemon)
        for daemon in (first_daemon, second_daemon):
            status = httpx.get(f"{daemon.url}/api/deployments/m").json()
            assert (status["state"], status["crashes"]) == ("ready", 0)
        end(second_daemon)
        client.cluster.resume("slurm", first)
        cluster.wait_until(lambda: nodes()[first] == "idle")  # Slurm learns of it first
        # No node remains for another process, so the existing process keeps answering.
        for node in (first, other_node):
            client.cluster.drain("slurm", node, "Power")
        cluster.wait_until(
            lambda: any(job.state == "queued" and job.reason for job in client.cluster.status().jobs)
        )
        assert answers(first_daemon)
        for node in (first, other_node):
            client.cluster.resume("slurm", node)
        cluster.wait_until(lambda: len(cluster.jobs()) == 1)


@pytest.mark.process
def test_without_its_daemon_an_engine_ends_by_itself(cluster: SlurmCluster, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with daemons.running(home, env={**cluster.environment, "PORTICO_LAUNCHER_LEASE": "3"}) as daemon:
        load(daemon, "m")
        [agent] = agents(home)
        [worker] = _workers([agent])
        daemon.stop(signal.SIGKILL)
    cluster.wait_until_empty()
    assert not psutil.pid_exists(worker)


@pytest.mark.process
def test_every_document_is_read_once_although_slurm_workers_are_killed(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    environment = {**cluster.environment, "PORTICO_INGEST_LAUNCHER": "slurm"}
    with daemons.running(tmp_path / "home", env=environment) as daemon:
        reads_documents(daemon, tmp_path / "documents", "slurm", cluster.wait_until)


def test_a_packaged_app_runs_as_a_job_and_writes_its_address(cluster: SlurmCluster, tmp_path: Path) -> None:
    with daemons.running(tmp_path / "maker") as maker, Client(maker.url) as client:
        client.deployments.add("echo", "fake://")
        client.apps.deploy("answer", {"portico_flow": 1, "step": {"op": "llm", "model": "echo"}})
        options = {"partition": "work", "memory_mb": 1_000, "cpus": 1}
        client.apps.package("answer", tmp_path / "answer.zip", targets=["slurm"], options=options)
    folder = tmp_path / "answer"
    with zipfile.ZipFile(tmp_path / "answer.zip") as archive:
        archive.extractall(folder)
    (folder / ".env").write_text(
        f"PORTICO_API_KEY=a-key-for-the-job-0123\nPORTICO_PYTHON={sys.executable}\n", encoding="utf-8"
    )
    subprocess.run(
        ["sbatch", "--job-name=package", "slurm.sh"],
        cwd=folder,
        env=daemons.environment(**cluster.environment),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    address = folder / "address"
    try:
        cluster.wait_until(lambda: address.exists() or not cluster.jobs())
        assert address.exists(), [log.read_text() for log in folder.glob("*.log")]
        port = address.read_text(encoding="utf-8").strip().rpartition(":")[2]
        with Client(f"http://127.0.0.1:{port}", key="a-key-for-the-job-0123") as job_client:
            assert job_client.apps.run("answer", "from a job") == "from a job"
    finally:
        cluster.ask("scancel", "--batch", "--signal=TERM", "--name=package")
        cluster.wait_until_empty()
    assert not address.exists(), "the daemon has ended"


def _workers(of: Sequence[int]) -> list[int]:
    child_ids = []
    for pid in of:
        if psutil.pid_exists(pid):
            child_ids += [child.pid for child in psutil.Process(pid).children()]
    return child_ids


def _forget(home: Path, name: str) -> None:
    """Remove a model from the database of a stopped daemon."""
    with sqlite3.connect(home / "portico.db") as database:
        database.execute("DELETE FROM models WHERE name = ?", (name,))
    database.close()
