"""Kubernetes: each process is the Pod of a Job, and the daemon accesses its agent at the Pod's address. Requires
``kubectl``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from portico.schemas.cluster import ClusterNode
from portico_server.core import pools
from portico_server.core.errors import Unavailable
from portico_server.launchers.pod_template import PodTemplate, read_pod_template
from portico_server.launchers.pods import (
    AGENT_PORT,
    JOB_LABEL,
    ORDER_FILE,
    ORDER_FOLDER,
    OURS,
    PodOptions,
    job_object,
    policy_object,
    secret_object,
)
from portico_server.launchers.protocol import LaunchOrder, NodeState
from portico_server.launchers.remote import AGENT_SCRIPT, MAX_REASON_CHARS, ORDER, JobLook
from portico_server.settings import KUBERNETES_NEEDS_IMAGE, MB_BYTES, Settings, comma_separated
from portico_server.subprocesses import output_of, own_interpreter, run_script

PROGRAM: Final = "kubectl"

REQUEST_TIMEOUT_S: Final = 10
"""Maximum time for a request to the API server, in seconds."""

COMMAND_TIMEOUT_S: Final = REQUEST_TIMEOUT_S + 10
"""Maximum time for a kubectl command, including its login helpers, in seconds."""

NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""File with the namespace of the Pod in which the daemon runs."""

LOG_LINES: Final = 20
"""Number of last lines of a Pod's log with which an error explains why the Pod has ended."""

_HOPELESS: Final = frozenset({"ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName"})
"""Reasons of a waiting container that do not go away until somebody intervenes."""

_POD_DELETED: Final = "its Pod was deleted"

MAX_LISTED_NODES: Final = 2_000
"""Maximum number of nodes that one request lists."""

_UNITS: Final = {
    "m": 1e-3,
    **{unit: 1000.0**power for power, unit in enumerate(("", "k", "M", "G", "T", "P", "E"))},
    **{f"{unit}i": 1024.0**power for power, unit in enumerate("KMGTPE", 1)},
}
"""Suffixes of quantities."""

_PLURALS: Final = {"Job": "jobs", "NetworkPolicy": "networkpolicies", "Secret": "secrets"}

_SERVER_SAYS: Final = "Error from server"
"""Beginning of kubectl's output if the API server has rejected a request. The reason follows in brackets."""

_NO_LOGIN: Final = ("Unauthorized", "must be logged in", "getting credentials")


def backend(settings: Settings) -> KubernetesBackend:
    """Return the backend configured by the settings."""
    daemon, template = comma_separated(settings.kubernetes_daemon), settings.kubernetes_template
    options = PodOptions(
        image=settings.kubernetes_image,
        user=os.getuid(),
        group=os.getgid(),
        volumes=[_volume(entry) for entry in comma_separated(settings.kubernetes_volumes)],
        template=read_pod_template(Path(template)) if template else PodTemplate(),
        gpu_resource=settings.kubernetes_gpu_resource,
        gpu_label=settings.kubernetes_gpu_label,
        daemon_labels=_labels([entry for entry in daemon if "=" in entry]),
        daemon_addresses=[entry for entry in daemon if "=" not in entry],
    )
    return KubernetesBackend(options, settings.kubernetes_namespace, settings.kubernetes_context)


def _labels(entries: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in entries)}


def _volume(entry: str) -> tuple[str, str, bool]:
    source, path, *read_only = entry.split(":")
    return source, path, bool(read_only)


class RequestFailed(Unavailable):
    """kubectl ended with an error. ``words`` is its output; ``refused`` means that the server rejected the request."""

    def __init__(self, words: str) -> None:
        from_server = words.startswith(_SERVER_SAYS)
        self.words = words.removeprefix(_SERVER_SAYS).lstrip(": ") if from_server else words
        is_known = not any(sign in words for sign in _NO_LOGIN)
        self.refused = from_server and is_known
        if not is_known:
            message = (
                f"Kubernetes did not accept the credentials, or they have expired: {self.words}. Log in "
                "again, or check 'kubernetes_context' and the service account of the daemon."
            )
        elif self.refused:
            message = f"Kubernetes rejected a request: {self.words}"
        else:
            message = (
                f"The cluster cannot be reached: {self.words}. Check 'kubernetes_context' and KUBECONFIG."
            )
        super().__init__(
            message, code="launcher_silent" if is_known and not from_server else "launcher_failed"
        )

    @property
    def missing(self) -> bool:
        """Return whether the requested object does not exist."""
        return self.words.startswith("(NotFound)")


class KubernetesBackend:
    """Runs jobs on Kubernetes; see `portico_server.launchers.remote.JobBackend`. Accesses the cluster through
    ``kubectl``, which supports all kinds of logins.

    ``namespace`` is by default the namespace of the daemon.
    """

    name = "kubernetes"
    title = "Kubernetes"

    def __init__(self, options: PodOptions, namespace: str = "", context: str = "") -> None:
        self._options = options
        self._namespace = namespace
        self._context = context

    async def submit(self, job: str, order: LaunchOrder, folder: Path, avoid: Sequence[str]) -> None:
        """See `JobBackend`."""
        if not self._options.image:
            raise Unavailable(KUBERNETES_NEEDS_IMAGE, code="setting_invalid")
        given_order = orjson.loads(await pools.MODELS.run((folder / ORDER).read_bytes))
        del given_order["address"]  # the daemon uses the Pod's address instead
        given_order["port"] = AGENT_PORT
        command = run_script(AGENT_SCRIPT, f"{ORDER_FOLDER}/{ORDER_FILE}", python=own_interpreter())
        try:
            owner = await self._create(job_object(job, order, command, self._options, avoid))
            await self._create(policy_object(job, owner, self._options))
            # The Secret with the order is created last. Until it exists, the Pod does not start.
            await self._create(secret_object(job, owner, orjson.dumps(given_order).decode()))
        except RequestFailed as error:
            if not error.refused:
                raise
            raise Unavailable(
                f"Kubernetes rejected the job of '{order.name}': {error.words}", code="launch_refused"
            ) from error

    async def look(self, job: str, folder: Path) -> JobLook:
        """See `JobBackend`."""
        pods = await self._list("pods", labelSelector=f"{JOB_LABEL}={job}")
        if not pods:
            return await self._look_without_pod(job)
        look = read_pod(pods[0])
        if (
            look.state == "queued" and not look.reason
        ):  # Kubernetes reports only in an event that a volume cannot be mounted
            return JobLook("queued", await self._warning(pods[0]["metadata"]["name"]))
        if look.state == "ended" and pods[0]["status"].get("startTime"):
            words = await self._last_words(pods[0]["metadata"]["name"])
            return JobLook("ended", "; ".join(filter(None, [look.reason, words])))
        return look

    async def _look_without_pod(self, job: str) -> JobLook:
        try:
            found_job_object = orjson.loads(
                await self._run("get", f"{await self._path('batch/v1', 'jobs')}/{job}")
            )
        except RequestFailed as error:
            if not error.missing:
                raise
            return JobLook("ended", "Kubernetes no longer knows the job")
        return read_job(found_job_object, await self._warning(job))

    async def _warning(self, name: str) -> str:
        """Return the message of the latest warning event of an object."""
        events = await self._list("events", fieldSelector=f"involvedObject.name={name},type=Warning")
        if not events:
            return ""
        last = max(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return _words(last)

    async def _last_words(self, pod: str) -> str:
        path = f"{await self._path('v1', 'pods')}/{pod}/log?tailLines={LOG_LINES}"
        try:
            return " ".join((await self._run("get", path)).split())[-MAX_REASON_CHARS:]
        except RequestFailed:  # a container that never ran has no log
            return ""

    async def cancel(self, job: str) -> None:
        """See `JobBackend`. Kubernetes deletes the Job together with the objects that the Job owns."""
        path = f"{await self._path('batch/v1', 'jobs')}/{job}?propagationPolicy=Background"
        try:
            await self._run("delete", path)
        except RequestFailed as error:
            if not error.missing:
                raise

    async def nodes(self) -> Sequence[ClusterNode]:
        """See `ListsNodes`. A node is busy if it runs Pods of this daemon; the daemon does not see Pods of others."""
        try:
            node_list = orjson.loads(await self._run("get", f"/api/v1/nodes?limit={MAX_LISTED_NODES}"))
        except RequestFailed as error:
            if not error.refused:
                raise
            raise Unavailable(
                f"Kubernetes does not allow this daemon to list its nodes: {error.words}. Apply the "
                "ClusterRole of configs/kubernetes/launcher.yaml.",
                code="nodes_unknown",
            ) from error
        pods = await self._list("pods", labelSelector=OURS)
        busy_nodes = {pod["spec"].get("nodeName") for pod in pods if pod["status"].get("phase") == "Running"}
        options = self._options
        return [
            read_node(
                node, options.gpu_resource, options.gpu_label, busy=node["metadata"]["name"] in busy_nodes
            )
            for node in node_list["items"]
        ]

    async def close(self) -> None:
        """Do nothing, because no connections are kept open."""

    async def _path(self, api: str, kind: str) -> str:
        if not self._namespace:
            self._namespace = await pools.MODELS.run(_own_namespace)
        root = "/api/v1" if api == "v1" else f"/apis/{api}"
        return f"{root}/namespaces/{self._namespace}/{kind}"

    async def _list(self, kind: str, **selectors: str) -> list[dict[str, Any]]:
        path = f"{await self._path('v1', kind)}?{urlencode(selectors)}"
        items: list[dict[str, Any]] = orjson.loads(await self._run("get", path))["items"]
        return items

    async def _create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object, and return the server's version of it."""
        path = await self._path(manifest["apiVersion"], _PLURALS[manifest["kind"]])
        response: dict[str, Any] = orjson.loads(
            await self._run("create", path, "--filename=-", input_data=orjson.dumps(manifest))
        )
        return response

    async def _run(self, method: str, path: str, *options: str, input_data: bytes = b"") -> str:
        """Send a request to the API server through kubectl, and return the response. Raises `Unavailable`."""
        command = [PROGRAM, method, f"--raw={path}", f"--request-timeout={REQUEST_TIMEOUT_S}s", *options]
        if self._context:
            command.append(f"--context={self._context}")
        # Login helpers of a cloud may need secrets from the environment, so kubectl receives all variables
        # except the daemon's own.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PORTICO_")}
        try:
            status, out, err = await output_of(command, environment, COMMAND_TIMEOUT_S, input_data=input_data)
        except TimeoutError as error:
            raise Unavailable(
                f"Kubernetes did not respond within {COMMAND_TIMEOUT_S} s.", code="launcher_silent"
            ) from error
        except OSError as error:
            raise Unavailable(
                f"The launcher 'kubernetes' needs the command '{PROGRAM}', which cannot be run "
                f"({error.strerror}). Install it on the daemon's machine, or use the launcher 'local'.",
                code="launcher_missing",
            ) from error
        if status:
            words = " ".join(err.split())[:MAX_REASON_CHARS].rstrip(". ")
            raise RequestFailed(words or f"{PROGRAM} ended with status {status}")
        return out


def _own_namespace() -> str:
    try:
        return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError:
        return "default"


def read_pod(pod: Mapping[str, Any]) -> JobLook:
    """Return the state of a Pod that Kubernetes has reported. Pure."""
    status = pod["status"]
    phase = status.get("phase", "Pending")
    containers = status.get("containerStatuses") or [{}]
    state = containers[0].get("state", {})
    if phase in ("Succeeded", "Failed"):
        return JobLook("ended", _end_of(status, state.get("terminated", {})))
    if "deletionTimestamp" in pod["metadata"]:
        return JobLook("ended", _condition(status, "DisruptionTarget", "True") or _POD_DELETED)
    if phase == "Pending":
        waiting_state = state.get("waiting", {})
        reason = waiting_state.get("reason", "")
        if reason in _HOPELESS:
            return JobLook("ended", _words(waiting_state))
        if reason in ("", "ContainerCreating", "PodInitializing"):
            return JobLook("queued", _condition(status, "PodScheduled", "False"))
        return JobLook("queued", _words(waiting_state))
    if not containers[0].get("ready") or not status.get("podIP"):
        # If a Pod that was ready is no longer ready, the daemon queries the Pod's agent directly, because the
        # node may be lost.
        return JobLook("running", _condition(status, "Ready", "Unknown") or "it starts")
    return JobLook(
        "running",
        host=status["podIP"],
        port=AGENT_PORT,
        node=pod["spec"].get("nodeName", ""),
        ends_at=_deadline(pod),
    )


def read_job(job: Mapping[str, Any], warning: str) -> JobLook:
    """Return the state of a Job without a Pod, as Kubernetes has reported it. Pure."""
    status = job.get("status", {})
    if failure := _condition(status, "Failed", "True"):  # a Pod that had ended by itself would still exist
        return JobLook("ended", _POD_DELETED if failure.startswith("BackoffLimitExceeded") else failure)
    # A queue such as Kueue suspends a Job until it has room.
    return JobLook("queued", warning or _condition(status, "Suspended", "True"))


def read_node(node: Mapping[str, Any], gpu_resource: str, gpu_label: str, *, busy: bool) -> ClusterNode:
    """Return a node that Kubernetes has reported. Pure."""
    spec, status = node["spec"], node["status"]
    ready = any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in status.get("conditions", ())
    )
    is_closed = bool(spec.get("unschedulable"))
    state: NodeState
    if not ready:
        state = "down"
    elif is_closed:
        state = "draining" if busy else "drained"
    else:
        state = "busy" if busy else "idle"
    trouble = [
        _words(condition)
        for condition in status.get("conditions", ())
        if condition["status"] != ("True" if condition["type"] == "Ready" else "False")
    ]
    allocatable = status.get("allocatable", {})
    gpus = int(_quantity(allocatable.get(gpu_resource, "0")))
    kind = node["metadata"].get("labels", {}).get(gpu_label, "")
    return ClusterNode(
        node["metadata"]["name"],
        state,
        next(
            (
                address["address"]
                for address in status.get("addresses", ())
                if address["type"] == "InternalIP"
            ),
            "",
        ),
        f"{'Ready' if ready else 'NotReady'}{',SchedulingDisabled' if is_closed else ''}",
        "; ".join(trouble),
        cpus=int(_quantity(allocatable.get("cpu", "0"))),
        memory_mb=int(_quantity(allocatable.get("memory", "0"))) // MB_BYTES,
        gpus=gpus,
        gpu_types=(kind,) if gpus and kind else (),
    )


def _quantity(text: str) -> float:
    """Parse a Kubernetes quantity such as ``7910m`` or ``16Gi``.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    digits = text.rstrip("EGKMPTikm")
    return float(digits) * _UNITS[text[len(digits) :]]


def _end_of(status: Mapping[str, Any], termination: Mapping[str, Any]) -> str:
    """Return why a Pod has ended: either the Pod was terminated, or its container ended."""
    reason = _words(status) or _condition(status, "DisruptionTarget", "True")
    exit_text = _words(termination)
    if "exitCode" in termination:
        exit_text = f"{exit_text or 'ended'} with status {termination['exitCode']}"
    return "; ".join(filter(None, [reason, exit_text]))


def _condition(status: Mapping[str, Any], kind: str, value: str) -> str:
    for condition in status.get("conditions", ()):
        if condition["type"] == kind and condition["status"] == value:
            return _words(condition)
    return ""


def _words(state: Mapping[str, Any]) -> str:
    """Return the reason and the message of a status, a condition or an event as one line."""
    words = ": ".join(filter(None, [state.get("reason", ""), state.get("message", "")]))
    return " ".join(words.split())[:MAX_REASON_CHARS].rstrip(". ")


def _deadline(pod: Mapping[str, Any]) -> float | None:
    """Return the time at which Kubernetes will end a Pod, or ``None`` if the Pod has no time limit."""
    seconds, start_time = pod["spec"].get("activeDeadlineSeconds"), pod["status"].get("startTime")
    return datetime.fromisoformat(start_time).timestamp() + seconds if seconds and start_time else None
