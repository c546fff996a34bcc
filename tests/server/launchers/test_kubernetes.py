"""Engines and training jobs as Pods: real processes behind a stand-in for the API server, called by a real kubectl."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.kubernetes_api import node
from tests.kubernetes_cluster import KubernetesCluster, documented_rules, kubernetes_cluster, missing
from tests.server.launchers.training import STEPS, training

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico.wire import Event, Progressed
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.features.training.training_events import Metrics, TrainedWeights
from portico_server.launchers.kubernetes import backend, read_job, read_node, read_pod
from portico_server.launchers.launchers import Launchers
from portico_server.launchers.pod_template import PodTemplate, read_pod_template
from portico_server.launchers.pods import JOB_LABEL, PodOptions, job_object, policy_object
from portico_server.launchers.protocol import LaunchOrder, Resources
from portico_server.models.deployment import Deployment
from portico_server.models.server_process import ServerProcess
from portico_server.models.spec import ModelSpec
from portico_server.settings import load as load_settings


@pytest.fixture(scope="module")
def cluster_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesCluster]:
    if reason := missing():
        pytest.skip(reason)
    with (
        kubernetes_cluster(tmp_path_factory.mktemp("kubernetes") / "cluster") as running_cluster,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in running_cluster.environment.items():
            patch.setenv(name, value)
        yield running_cluster


@pytest.fixture
def kubernetes(cluster_of_module: KubernetesCluster) -> Iterator[KubernetesCluster]:
    """A cluster without faults; after each test, wait until it is empty."""
    yield cluster_of_module
    cluster_of_module.set_faults()
    cluster_of_module.wait_until(cluster_of_module.is_empty)


def process_of(models: ModelFixture, name: str = "m") -> ServerProcess:
    deployment = models.registry.get(name)
    assert (
        isinstance(deployment, Deployment)
        and deployment.running is not None
        and deployment.running.process is not None
    )
    return deployment.running.process


# --- without a cluster ----------------------------------------------------------------------------------


PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def order(**resources: Any) -> LaunchOrder:
    return LaunchOrder("m", ["engine"], Path("/log"), resources=Resources(**resources))


def test_a_pod_requests_the_configured_options_and_resources() -> None:
    options = PodOptions(
        "image:1",
        user=8642,
        group=8642,
        volumes=[("home", "/data", False), ("/mnt/models", "/models", True)],
        template=PodTemplate(
            labels={"kueue.x-k8s.io/queue-name": "gpus", JOB_LABEL: "other"},
            spec={
                "affinity": {"podAntiAffinity": {}, "nodeAffinity": {PREFERRED: [{"weight": 1}]}},
                "nodeSelector": {"disk": "ssd"},
                "priorityClassName": "interactive",
                "serviceAccountName": "puller",
                "tolerations": [{"key": "team"}],
            },
        ),
        daemon_labels={"app": "portico"},
        daemon_addresses=["10.1.0.0/16"],
    )
    resources = {"cpus": 4, "gpus": 2, "gpu_type": "A100", "memory_mb": 100, "minutes": 5}
    manifest = job_object("portico-1", order(**resources), ["python"], options, ["node-1"])
    pod = manifest["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "4", "memory": "100Mi", "nvidia.com/gpu": "2"},
        "limits": {"memory": "100Mi", "nvidia.com/gpu": "2"},
    }
    assert pod["nodeSelector"] == {"disk": "ssd", "nvidia.com/gpu.product": "A100"}
    assert pod["tolerations"] == [
        {"key": "team"},
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
    ]
    assert pod["priorityClassName"] == "interactive"
    assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    labels = manifest["metadata"]["labels"]
    assert labels == manifest["spec"]["template"]["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "gpus" and labels[JOB_LABEL] == "portico-1"
    assert pod["activeDeadlineSeconds"] == 300
    assert pod["serviceAccountName"] == "puller" and not pod["automountServiceAccountToken"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 8642
    assert {"name": "volume-1", "hostPath": {"path": "/mnt/models", "type": "Directory"}} in pod["volumes"]
    assert {"name": "volume-1", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
    assert set(pod["affinity"]) == {"podAntiAffinity", "nodeAffinity"}
    preferred, elsewhere = pod["affinity"]["nodeAffinity"][PREFERRED]
    assert preferred == {"weight": 1} and "node-1" in json.dumps(elsewhere)
    owner = {**manifest, "metadata": {**manifest["metadata"], "uid": "1"}}
    policy = policy_object("portico-1", owner, options)["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["ingress"] == [
        {
            "from": [
                {"ipBlock": {"cidr": "10.1.0.0/16"}},
                {"podSelector": {"matchLabels": {"app": "portico"}}},
            ]
        }
    ]
    assert "app" not in policy["podSelector"]["matchLabels"], "an engine does not pass for the daemon"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- spec", "must contain a mapping"),
        ("spec: [", "cannot be read"),
        ("specs: {}", "cannot set 'specs'. Did you mean 'spec'?"),
        ("spec: {hostNetwork: true}", "cannot set 'spec.hostNetwork'"),
        ("spec: {securityContext: {runAsUser: 0}}", "cannot set 'spec.securityContext'"),
        ("spec: {containers: []}", "cannot set 'spec.containers'"),
        (
            "spec: {priorityClassName: 1}",
            "'spec.priorityClassName' of the setting 'kubernetes_template' must be a text",
        ),
        ("spec: {tolerations: {}}", "must be a list"),
        ("spec: high", "'spec' of the setting 'kubernetes_template' must be a mapping"),
        ("metadata: {name: other}", "cannot set 'metadata.name'"),
    ],
)
def test_a_template_sets_the_scheduling_of_pods_and_nothing_else(
    text: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest) as error:
        read_pod_template(path)
    assert words in error.value.message and error.value.param == "kubernetes_template"
    settings = load_settings({"kubernetes_template": str(path)}, {}).settings
    with pytest.raises(InvalidRequest, match=re.escape(error.value.message)):
        Launchers(settings)


def test_a_job_that_its_queue_suspends_waits_with_the_reason() -> None:
    look = read_job({"status": condition("Suspended", "True", "JobSuspended", "Job suspended")}, "")
    assert (look.state, look.reason) == ("queued", "JobSuspended: Job suspended")


def pod(phase: str, *, deleted: bool = False, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {})},
        "spec": {"nodeName": "n", "activeDeadlineSeconds": 60},
        "status": {"phase": phase, **status},
    }


def container(state: str, *, ready: bool = False, **more: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"ready": ready, "state": {state: more}}]}


def condition(kind: str, value: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": value, "reason": reason, "message": message}]}


@pytest.mark.parametrize(
    ("given", "state", "reason"),
    [
        (
            pod("Pending", **condition("PodScheduled", "False", "Unschedulable", "0/3 nodes")),
            "queued",
            "0/3 nodes",
        ),
        (
            pod("Pending", **container("waiting", reason="ErrImagePull", message="x")),
            "queued",
            "ErrImagePull: x",
        ),
        (
            pod("Pending", **container("waiting", reason="ImagePullBackOff", message="x")),
            "ended",
            "ImagePullBackOff: x",
        ),
        (pod("Pending", **container("waiting", reason="ContainerCreating")), "queued", ""),
        (pod("Running", **container("running")), "running", "it starts"),
        (
            pod("Running", **condition("Ready", "Unknown", "NodeStatusUnknown")),
            "running",
            "NodeStatusUnknown",
        ),
        (
            pod("Failed", **container("terminated", reason="OOMKilled", exitCode=137)),
            "ended",
            "OOMKilled with status 137",
        ),
        (pod("Failed", reason="Evicted", message="low on disk"), "ended", "Evicted: low on disk"),
        (pod("Failed", reason="DeadlineExceeded"), "ended", "DeadlineExceeded"),
        (
            pod("Running", deleted=True, **condition("DisruptionTarget", "True", "PreemptionByScheduler")),
            "ended",
            "PreemptionByScheduler",
        ),
        (pod("Running", deleted=True), "ended", "its Pod was deleted"),
    ],
)
def test_a_pods_status_becomes_a_job_state_with_a_reason(
    given: Mapping[str, Any], state: str, reason: str
) -> None:
    look = read_pod(given)
    assert look.state == state and reason in look.reason and not look.port


def test_a_pod_that_is_ready_has_an_address_and_an_end() -> None:
    look = read_pod(
        pod("Running", podIP="10.0.0.7", startTime="2026-01-01T00:00:00Z", **container("running", ready=True))
    )
    assert (look.host, look.port, look.node, look.ends_at) == ("10.0.0.7", 8643, "n", 1767225660.0)
    job_status = {"status": condition("Failed", "True", "DeadlineExceeded")}
    assert read_job(job_status, "").reason == "DeadlineExceeded"
    assert read_job({"status": {}}, "exceeded quota").state == "queued"


@pytest.mark.parametrize(
    ("closed", "busy", "ready", "state", "detail"),
    [
        (False, True, "True", "busy", "Ready"),
        (True, True, "True", "draining", "Ready,SchedulingDisabled"),
        (True, False, "True", "drained", "Ready,SchedulingDisabled"),
        (False, True, "Unknown", "down", "NotReady"),
    ],
)
def test_state_and_resources_of_a_kubernetes_node_are_read(
    closed: bool, busy: bool, ready: str, state: str, detail: str
) -> None:
    node_object = node("node-1", {"nvidia.com/gpu.product": "A100"})
    node_object["spec"] = {"unschedulable": closed}
    node_object["status"]["allocatable"]["nvidia.com/gpu"] = "4"
    node_object["status"]["conditions"][1] |= {"status": ready, "message": "Kubelet stopped posting"}
    cluster_node = read_node(node_object, "nvidia.com/gpu", "nvidia.com/gpu.product", busy=busy)
    assert (cluster_node.state, cluster_node.detail, cluster_node.address) == (state, detail, "10.0.0.1")
    assert cluster_node.reason == ("" if ready == "True" else "KubeletReady: Kubelet stopped posting")
    assert (cluster_node.cpus, cluster_node.memory_mb, cluster_node.gpus, cluster_node.gpu_types) == (
        7,
        16009,
        4,
        ("A100",),
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kubernetes_image": ""}, "needs the setting 'kubernetes_image'"),
        ({"kubernetes_namespace": "a b"}, "has 'a b', but must be the name of a namespace"),
        ({"kubernetes_namespace": "a/../b"}, "must be the name of a namespace"),
        ({"kubernetes_volumes": "home=/data"}, "has 'home=/data', but must be CLAIM:/PATH or /FOLDER:/PATH"),
        ({"kubernetes_daemon": "everybody"}, "must be NAME=VALUE or an address range"),
        ({"kubernetes_daemon": ""}, "has '', but must be NAME=VALUE or an address range"),
    ],
)
def test_a_wrong_setting_is_refused_before_the_daemon_starts(settings: dict[str, str], words: str) -> None:
    all_settings = {"launcher": "kubernetes", "kubernetes_image": "image", **settings}
    with pytest.raises(InvalidRequest) as error:
        load_settings(all_settings, {})
    assert words in error.value.message
    assert error.value.param == next(iter(settings))


async def test_a_model_with_the_launcher_needs_an_image_and_kubectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with model_fixture(tmp_path) as models:
        await models.models.add(ModelSpec("m", "fake://", launcher="kubernetes"))
        with pytest.raises(PorticoError, match="needs the setting 'kubernetes_image'") as error:
            await models.models.load("m")
        assert error.value.code == "setting_invalid"
    async with model_fixture(tmp_path, kubernetes_image="image") as models:
        await models.models.add(ModelSpec("n", "fake://", launcher="kubernetes"))
        with pytest.raises(PorticoError, match="needs the command 'kubectl'") as error:
            await models.models.load("n")
        assert error.value.code == "launcher_missing"


def test_remains_of_an_earlier_daemon_are_searched_for_without_kubernetes_settings() -> None:
    """Without its settings, the launcher looks for the remains of an earlier daemon, which may have used Kubernetes."""
    assert backend(load_settings({}, {}).settings).name == "kubernetes"


def test_volume_and_daemon_settings_are_parsed() -> None:
    settings = load_settings(
        {
            "kubernetes_image": "image",
            "kubernetes_volumes": "home:/data, /mnt:/models:ro",
            "kubernetes_daemon": "app=portico, 10.1.0.0/16",
        },
        {},
    ).settings
    options = backend(settings)._options
    assert options.volumes == [("home", "/data", False), ("/mnt", "/models", True)]
    assert options.daemon_labels == {"app": "portico"} and options.daemon_addresses == ["10.1.0.0/16"]


# --- on a cluster -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_models_answer_from_pods_that_are_gone_when_they_are_unloaded(
    kubernetes: KubernetesCluster, tmp_path: Path
) -> None:
    async with model_fixture(tmp_path, **kubernetes.settings) as models:
        model_options = {"resources": {"cpus": 1, "memory_mb": 500}, "parameters": {"script": {"start": 0.1}}}
        for name in ("m", "other"):
            await models.models.add(ModelSpec(name, "fake://", **model_options))
        await asyncio.gather(models.models.load("m"), models.models.load("other"))
        for name in ("m", "other"):
            answer = await models.ask(name, {"messages": user(f"from {name}")})
            assert answer["choices"][0]["message"]["content"] == f"from {name}"
        process = process_of(models)
        endpoint = process.endpoint("m")
        wrong = httpx.Headers({"Authorization": "Bearer wrong"})
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{endpoint.url}/models", headers=wrong)).status_code == 401
        pods = kubernetes.objects("pods")
        assert endpoint.url.split("/")[2].split(":")[0] in {
            pod_object["status"]["podIP"] for pod_object in pods
        }
        nodes = await models.models.launchers.nodes("kubernetes")
        assert {node.name: node.state for node in nodes} == {"node-1": "busy", "node-2": "idle"}
        kubernetes.set_faults(forbidden="nodes")
        with pytest.raises(
            PorticoError, match=r"does not allow this daemon to list its nodes.*launcher\.yaml"
        ):
            await models.models.launchers.nodes("kubernetes")
        secrets = json.dumps(kubernetes.objects("secrets"))
        assert endpoint.key in secrets
        for kind in ("jobs", "pods", "networkpolicies"):
            assert len(kubernetes.objects(kind)) == 2
            assert endpoint.key not in json.dumps(kubernetes.objects(kind)), "a token is in its Secret alone"
        await models.models.unload("m")
        kubernetes.wait_until(lambda: len(kubernetes.objects("pods")) == 1)
        assert any("Completed" in line for line in process.lines(100)), "its log is here"
    assert not list((tmp_path / "jobs").glob("*")), "nothing of the jobs is left"
    documented_permissions = {
        f"{verb} {resource}"
        for rule in documented_rules()
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert kubernetes.asked() <= documented_permissions


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("resources", "settings", "faults", "code", "words"),
    [
        (
            {"gpus": 1},
            {},
            {},
            "queue_timeout",
            "Unschedulable: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu",
        ),
        ({"gpu_type": "H100"}, {}, {}, "queue_timeout", "didn't match Pod's node affinity/selector"),
        ({}, {}, {"quota": "compute"}, "queue_timeout", "is forbidden: exceeded quota: compute"),
        (
            {},
            {"kubernetes_volumes": "missing:/data"},
            {},
            "queue_timeout",
            'persistentvolumeclaim "missing" not found',
        ),
        (
            {},
            {"kubernetes_image": "x:missing"},
            {},
            "launch_failed",
            'ImagePullBackOff: Back-off pulling image "x:missing"',
        ),
        ({}, {}, {"forbidden": "secrets"}, "launch_refused", 'cannot create resource "secrets"'),
        (
            {},
            {},
            {"unauthorized": True},
            "launcher_failed",
            "did not accept the credentials, or they have expired",
        ),
        ({}, {"kubernetes_context": "nowhere"}, {}, "launcher_silent", 'context "nowhere" does not exist'),
    ],
)
async def test_a_pod_that_cannot_run_is_one_error_in_the_words_of_kubernetes(
    kubernetes: KubernetesCluster,
    tmp_path: Path,
    resources: dict[str, Any],
    settings: dict[str, str],
    faults: dict[str, Any],
    code: str,
    words: str,
) -> None:
    kubernetes.set_faults(**faults)
    progress_events: list[Progressed] = []

    async def listen(event: Event) -> None:
        if isinstance(event, Progressed):
            progress_events.append(event)

    async with model_fixture(
        tmp_path, launcher_queue_timeout=1, **{**kubernetes.settings, **settings}
    ) as models:
        await models.models.add(ModelSpec("m", "fake://", resources=resources))
        deployment = models.registry.get("m")
        assert isinstance(deployment, Deployment)
        with pytest.raises(PorticoError) as error:
            await deployment.pool.processes[0].load(listen)
    assert error.value.code == code
    assert words in error.value.message
    if code == "queue_timeout":
        assert any(event.stage == "queued" and words in event.message for event in progress_events)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(400)
async def test_a_pod_that_is_deleted_or_lost_is_one_error_and_the_next_call_gets_another(
    kubernetes: KubernetesCluster, tmp_path: Path
) -> None:
    async with model_fixture(tmp_path, **kubernetes.settings) as models:
        await models.models.add(ModelSpec("m", "fake://"))
        await models.models.load("m")
        process = process_of(models)
        [first] = kubernetes.objects("pods")
        kubernetes.delete_pod(first["metadata"]["name"])
        await process.wait()
        # Whether Kubernetes still has its reason depends on how long it keeps a deleted Pod.
        assert re.search(
            r"was ended by Kubernetes \((DeletionByTest: the|its) Pod was deleted", process.exit_description()
        )
        assert (await models.ask("m", {"messages": user("again")}))["choices"]
        process = process_of(models)
        [second] = kubernetes.objects("pods")
        assert second["metadata"]["name"] != first["metadata"]["name"]
        node = second["spec"]["nodeName"]
        kubernetes.set_faults(lost=node, lose=node)
        await process.wait()
        assert "its node no longer responds" in process.exit_description()
        assert (await models.ask("m", {"messages": user("elsewhere")}))["choices"]
        [third] = kubernetes.objects("pods")
        assert third["spec"]["nodeName"] != node


def load(daemon: Daemon, name: str) -> None:
    """Let a daemon run a scripted model in a Pod."""
    body = {"name": name, "source": "fake://", "launcher": "kubernetes"}
    assert httpx.post(f"{daemon.url}/api/deployments", json=body).status_code == 200
    assert httpx.post(f"{daemon.url}/api/deployments/{name}/load").json()["state"] == "ready"


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(400)
def test_a_restarted_daemon_takes_over_engines_and_ends_those_of_removed_models(
    kubernetes: KubernetesCluster, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    settings = {f"PORTICO_{name.upper()}": value for name, value in kubernetes.settings.items()}
    environment = {**kubernetes.environment, **settings}
    with daemons.running(home, env=environment) as first:
        for name in ("kept", "gone"):
            load(first, name)
        first.stop(signal.SIGKILL)
    with contextlib.closing(sqlite3.connect(home / "portico.db")) as database, database:
        database.execute("DELETE FROM models WHERE name = 'gone'")
    [job_name] = [
        job["metadata"]["name"]
        for job in kubernetes.objects("jobs")
        if job["metadata"]["annotations"]["portico-name"] == "kept"
    ]
    with daemons.running(home, env=environment) as second:
        body = {"model": "kept", "messages": user("still here")}
        answer = httpx.post(f"{second.url}/v1/chat/completions", json=body).json()
        assert answer["choices"][0]["message"]["content"] == "still here"
        kubernetes.wait_until(
            lambda: [job["metadata"]["name"] for job in kubernetes.objects("jobs")] == [job_name]
        )


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(400)
async def test_a_training_is_a_pod(kubernetes: KubernetesCluster, tmp_path: Path) -> None:
    events, pods = [], set()
    async for event in training(tmp_path, **kubernetes.settings):
        events.append(event)
        pods |= {pod_object["metadata"]["name"] for pod_object in kubernetes.objects("pods")}
    assert isinstance(events[-1], TrainedWeights)
    assert (events[-1].path / "adapter_config.json").is_file()
    assert [event.step for event in events if isinstance(event, Metrics)][-1] == STEPS
    assert len(pods) == 1
