"""Manifests of Kubernetes objects for the launcher and for packages. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from portico_server.core.dataclass import dataclass
from portico_server.launchers.pod_template import PodTemplate
from portico_server.launchers.protocol import LaunchOrder

AGENT_PORT: Final = 8643
"""Port of the agent in a Pod. The engine uses another port."""

ORDER_FILE: Final = "order.json"
ORDER_FOLDER: Final = "/run/portico"

JOB_LABEL: Final = "app.kubernetes.io/instance"

_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"

_MANAGED_BY: Final = ("app.kubernetes.io/managed-by", "portico")

OURS: Final = "=".join(_MANAGED_BY)
"""Label selector for the objects that launchers have created."""

FINISHED_LIFETIME_S: Final = 60
"""Seconds after which Kubernetes deletes a finished Job if no daemon has deleted it."""

STOP_TIMEOUT_S: Final = 10
"""Seconds between asking a Pod to end and killing it."""

START_TIMEOUT_S: Final = 300
"""Maximum time for the agent of a Pod to start listening, in seconds."""


CONTAINER_SECURITY: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod_security(user: int, group: int) -> dict[str, Any]:
    """Return a security context with which a Pod runs as ``user`` and ``group``. The group owns the files of the Pod's
    volumes.
    """
    return {
        "runAsNonRoot": user != 0,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
        # Otherwise, each start of a Pod changes the owner of every file of a volume, which takes minutes.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_resources(
    cpus: int, memory_mb: int, gpus: int, *, gpu_resource: str = "nvidia.com/gpu"
) -> dict[str, Any]:
    """Return the resources that a container requests, leaving out zeros.

    CPUs have no limit, so that any container can use idle CPUs.
    """
    gpu = {gpu_resource: str(gpus)} if gpus else {}
    memory = {"memory": f"{memory_mb}Mi"} if memory_mb else {}
    requests = {
        "requests": {**({"cpu": str(cpus)} if cpus else {}), **memory, **gpu},
        "limits": {**memory, **gpu},
    }
    return {name: value for name, value in requests.items() if value}


def new_object(kind: str, api: str, name: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a manifest with the fields that all objects have."""
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, **({"labels": dict(labels)} if labels else {})},
    }


@dataclass(frozen=True, slots=True)
class PodOptions:
    """The options of every Pod, unless the resources of a job override them.

    ``volumes`` are claims by name and node folders by path, each with its mount path and whether it is read-only.
    ``daemon`` states who may access the Pod, as Pod labels or address ranges. The Pod runs as ``user`` and ``group``,
    where and with which priority the ``template`` says.
    """

    image: str
    user: int
    group: int
    volumes: Sequence[tuple[str, str, bool]] = ()
    template: PodTemplate = PodTemplate()
    gpu_resource: str = "nvidia.com/gpu"
    gpu_label: str = "nvidia.com/gpu.product"
    daemon_labels: Mapping[str, str] | None = None
    daemon_addresses: Sequence[str] = ()


def job_object(
    job: str, order: LaunchOrder, command: Sequence[str], options: PodOptions, avoid: Sequence[str]
) -> dict[str, Any]:
    """Return a Job with one Pod. The Pod is never restarted, because the daemon must send its input again."""
    template = options.template
    labels = {**template.labels, **_labels(job)}
    manifest = new_object("Job", "batch/v1", job, labels)
    manifest["metadata"]["annotations"] = {**template.annotations, "portico-name": order.name}
    pod_metadata = {
        "labels": labels,
        **({"annotations": template.annotations} if template.annotations else {}),
    }
    return {
        **manifest,
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": FINISHED_LIFETIME_S,
            "template": {"metadata": pod_metadata, "spec": _pod(job, order, command, options, avoid)},
        },
    }


def secret_object(job: str, owner: Mapping[str, Any], order: str) -> dict[str, Any]:
    """Return a Secret that only the Pod reads. It contains the order, which includes the engine's token."""
    return {
        **_owned_object("Secret", "v1", job, owner),
        "type": "Opaque",
        "immutable": True,
        "stringData": {ORDER_FILE: order},
    }


def policy_object(job: str, owner: Mapping[str, Any], options: PodOptions) -> dict[str, Any]:
    """Return a NetworkPolicy that allows only the daemon to access the Pod.

    The policy allows any port, because the engine's port is unknown until the engine listens.
    """
    peers: list[dict[str, Any]] = [{"ipBlock": {"cidr": cidr}} for cidr in options.daemon_addresses]
    if options.daemon_labels:
        peers.append({"podSelector": {"matchLabels": dict(options.daemon_labels)}})
    return {
        **_owned_object("NetworkPolicy", "networking.k8s.io/v1", job, owner),
        "spec": {
            "podSelector": {"matchLabels": _labels(job)},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": peers}],
        },
    }


def _labels(job: str) -> dict[str, str]:
    # These labels differ from those of the daemon's own Pod, so that a process is never mistaken for the
    # daemon.
    return dict([(JOB_LABEL, job), _MANAGED_BY])


def _owned_object(kind: str, api: str, job: str, owner: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest of an object that Kubernetes deletes together with its Job."""
    manifest = new_object(kind, api, job, _labels(job))
    manifest["metadata"]["ownerReferences"] = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
        }
    ]
    return manifest


def _pod(
    job: str, order: LaunchOrder, command: Sequence[str], options: PodOptions, avoid: Sequence[str]
) -> dict[str, Any]:
    resources = order.resources
    volumes: list[dict[str, Any]] = [
        {"name": "order", "secret": {"secretName": job, "defaultMode": 0o440}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "order", "mountPath": ORDER_FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # of the container
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  # where the processes of an engine meet
    ]
    for number, (source, path, read_only) in enumerate(options.volumes):
        name = f"volume-{number}"
        volume_source = (
            {"hostPath": {"path": source, "type": "Directory"}}
            if source.startswith("/")
            else {"persistentVolumeClaim": {"claimName": source}}
        )
        volumes.append({"name": name, **volume_source})
        mounts.append({"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})})
    listens = {"tcpSocket": {"port": "agent"}}
    container: dict[str, Any] = {
        "name": "process",
        "image": options.image,
        "command": list(command),
        "env": [
            {"name": "PORTICO_NODE_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "PORTICO_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108
        ],
        "ports": [{"name": "agent", "containerPort": AGENT_PORT}],
        "volumeMounts": mounts,
        "securityContext": dict(CONTAINER_SECURITY),
        # The Pod is ready once the agent listens; the daemon sends no requests before that.
        "startupProbe": {**listens, "periodSeconds": 1, "failureThreshold": START_TIMEOUT_S},
        "livenessProbe": {**listens, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
    }
    container_limits = container_resources(
        resources.cpus, resources.memory_mb, resources.gpus, gpu_resource=options.gpu_resource
    )
    if container_limits:
        container["resources"] = container_limits
    pod: dict[str, Any] = {
        **options.template.spec,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": STOP_TIMEOUT_S,
        "securityContext": pod_security(options.user, options.group),
        "containers": [container],
        "volumes": volumes,
    }
    if resources.gpu_type:
        pod["nodeSelector"] = {**pod.get("nodeSelector", {}), options.gpu_label: resources.gpu_type}
    if resources.minutes:
        pod["activeDeadlineSeconds"] = resources.minutes * 60
    if resources.gpus:  # nodes with GPUs often have this taint, which keeps other Pods away
        toleration = {"key": options.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}
        pod["tolerations"] = [*pod.get("tolerations", ()), toleration]
    if avoid:  # a preference, not a requirement, because the cluster may have no other nodes
        elsewhere = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": list(avoid)}
        preference = {"weight": 100, "preference": {"matchExpressions": [elsewhere]}}
        pod["affinity"] = _prefer(preference, pod.get("affinity", {}))
    return pod


def _prefer(preference: Mapping[str, Any], affinity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an affinity with one more preference of nodes."""
    node_affinity = affinity.get("nodeAffinity", {})
    preferences = [*node_affinity.get(_PREFERRED, ()), preference]
    return {**affinity, "nodeAffinity": {**node_affinity, _PREFERRED: preferences}}
