"""Communicates with a Ray cluster for the daemon. Reads requests as JSON lines and writes responses as JSON lines,
until standard input closes.

``python ray_driver.py ADDRESS SECONDS`` needs only Ray and the standard library. It must join the cluster within the
given number of seconds.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]

try:
    import ray
    import ray._private.state
    import ray._private.worker
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason
    from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError
except ImportError as missing:
    print(json.dumps({"error": f"the environment {sys.prefix} does not contain Ray ({missing})"}), flush=True)
    raise SystemExit(1) from None

NAMESPACE = "portico"

HEAD_RESOURCE = "node:__internal_head__"
"""A resource that only the head node has."""

NODE_LABEL = "ray.io/node-id"
"""A label of every node, with its id."""

DRAINED_REASONS = (3, 4)
"""Reasons for the end of a node that mean it was drained: ``NodeDeathInfo.Reason`` of Ray."""

LOOK_TIMEOUT_S = 0.5
"""Seconds that an actor has to respond before it counts as waiting."""

MAX_THREADS_COUNT = 8

MAX_WORDS_CHARS = 500

MB_BYTES = 1024 * 1024

_TYPE_SHARE = 0.001
"""Amount of a node's accelerator type resource that an actor requests, so that Ray places the actor on a node of this
type.
"""

_PR_SET_PDEATHSIG_CODE = 1


class JobActor:
    """An actor that owns an agent and the agent's engine. If the actor or the agent ends, the other one ends too."""

    def __init__(self, command: list[str], log: str) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHON"))
        }
        environment["PORTICO_NODE"] = ray.get_runtime_context().get_node_id()
        environment["PORTICO_NODE_ADDRESS"] = ray.util.get_node_ip_address()
        library = ctypes.CDLL(None)
        with open(log, "ab") as out:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=lambda: library.prctl(_PR_SET_PDEATHSIG_CODE, signal.SIGTERM),
            )
        threading.Thread(target=self._end_with_agent, daemon=True).start()

    def _end_with_agent(self) -> None:
        self._process.wait()
        os._exit(0)

    def ready(self) -> None:
        """Return once the actor is placed and its agent has started."""


class JoinedCluster:
    """The methods that the daemon calls by name."""

    def __init__(self, address: str) -> None:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
        self._actor = ray.remote(JobActor)
        self._ready: dict[str, Any] = {}
        """The pending response of each job's actor, by job."""

    def submit(
        self, job: str, command: list[str], log: str, resources: dict[str, Any], avoid: list[str]
    ) -> dict[str, Any]:
        """Start an actor that runs a command. If no node can run it, ``refused`` in the result explains why.

        Nodes in ``avoid`` run it only if no other node can.
        """
        requirements: dict[str, float] = {"CPU": resources["cpus"] or 1}
        if resources["gpus"]:
            requirements["GPU"] = resources["gpus"]
        if resources["gpu_type"]:
            requirements[f"accelerator_type:{resources['gpu_type']}"] = _TYPE_SHARE
        if resources["memory_mb"]:
            requirements["memory"] = resources["memory_mb"] * MB_BYTES
        nodes = [node for node in ray.nodes() if node["Alive"]]
        suitable = {
            node["NodeID"]
            for node in nodes
            if all(node["Resources"].get(name, 0) >= value for name, value in requirements.items())
        }
        if not suitable:
            has = "; ".join(sorted({_describe(node["Resources"]) for node in nodes})) or "none"
            return {"refused": f"no node of the cluster has {_describe(requirements)} (nodes have {has})"}
        avoids = suitable.intersection(avoid) and suitable.difference(avoid)
        self._actor.options(
            name=job,
            lifetime="detached",
            max_restarts=0,  # the daemon itself resubmits a lost job, because the new agent has another address
            num_cpus=requirements["CPU"],
            num_gpus=requirements.get("GPU", 0),
            memory=requirements.get("memory"),
            accelerator_type=resources["gpu_type"] or None,
            # Ray would wait for a lost node until its own checks report the loss
            label_selector={NODE_LABEL: f"!in({','.join(avoid)})"} if avoids else None,
        ).remote(command, log)
        return {"refused": ""}

    def look(self, job: str) -> dict[str, Any]:
        """Return whether the actor of a job has ended, and why. If it has not, return why it may not have started
        yet.
        """
        try:
            actor = ray.get_actor(job)
        except ValueError:
            self._ready.pop(job, None)
            return {"ended": True, "reason": ""}
        if job not in self._ready:
            self._ready[job] = actor.ready.remote()
        try:
            ray.get(self._ready[job], timeout=LOOK_TIMEOUT_S)
        except GetTimeoutError:
            free = _describe(ray.available_resources()) or "nothing"
            return {"ended": False, "reason": f"free in the cluster: {free}"}
        except RayActorError as error:
            del self._ready[job]
            return {"ended": not isinstance(error, ActorUnavailableError), "reason": _words(error)}
        return {"ended": False, "reason": "it starts"}

    def nodes(self) -> dict[str, Any]:
        """Return all nodes, including lost ones, with the fields of `portico.schemas.cluster.ClusterNode`."""
        draining = ray._private.state.state.get_draining_nodes()
        free = ray._private.state.available_resources_per_node()
        return {"nodes": [_node(node, node["NodeID"] in draining, free) for node in ray.nodes()]}

    def drain(self, node: str, reason: str) -> dict[str, Any]:
        """Stop placing actors on a node, which leaves the cluster once it is idle. If that fails, ``refused`` in the
        result explains why.
        """
        [ray_node] = [node_entry for node_entry in ray.nodes() if node_entry["NodeID"] == node]
        if HEAD_RESOURCE in ray_node["Resources"]:
            return {"refused": "it is the head node, which the cluster needs"}
        if node == ray.get_runtime_context().get_node_id():
            return {"refused": "this daemon is connected to the cluster through this node"}
        drain_result = ray._private.worker.global_worker.gcs_client.drain_node(
            node, DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION, reason, 0
        )
        return {"refused": "" if drain_result[0] else drain_result[1]}

    def cancel(self, job: str) -> dict[str, Any]:
        """End the actor of a job, wherever it runs."""
        self._ready.pop(job, None)
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(job))
        return {}


def _node(node: dict[str, Any], draining: bool, free: dict[str, Any]) -> dict[str, Any]:
    alive, resources = node["Alive"], node["Resources"]
    down_state = "drained" if node.get("DeathReason") in DRAINED_REASONS else "down"
    free_resources = free.get(node["NodeID"], {})
    used_resources = (
        {name: round(value - free_resources.get(name, 0), 3) for name, value in resources.items()}
        if alive
        else {}
    )
    busy = bool(used_resources.get("CPU") or used_resources.get("GPU"))
    return {
        "name": node["NodeID"],
        "address": node["NodeManagerAddress"],
        "state": down_state if not alive else "draining" if draining else "busy" if busy else "idle",
        "detail": "ALIVE" if alive else "DEAD",
        "reason": "" if alive else node.get("DeathReasonMessage", ""),
        "cpus": int(resources.get("CPU", 0)),
        "cpus_used": used_resources.get("CPU", 0.0) if alive else None,
        "memory_mb": int(resources.get("memory", 0) / MB_BYTES),
        "memory_used_mb": int(used_resources.get("memory", 0) / MB_BYTES) if alive else None,
        "gpus": int(resources.get("GPU", 0)),
        "gpus_used": used_resources.get("GPU", 0.0) if alive else None,
        "gpu_types": [name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")],
    }


def _describe(resources: dict[str, float]) -> str:
    """Return a readable form such as ``CPU 4, GPU 1``."""
    parts = []
    for name, value in sorted(resources.items()):
        if name in ("CPU", "GPU"):
            parts.append(f"{name} {value:g}")
        elif name == "memory":
            parts.append(f"{value / 1e9:.1f} GB")
        elif name.startswith("accelerator_type:"):
            parts.append(name.partition(":")[2])
    return ", ".join(parts)


def _words(error: BaseException) -> str:
    """Return the message of an error, without the tracebacks and lists of ids that Ray adds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1 if "Traceback" in str(error) or "ray::" in lines[0] else 0][:MAX_WORDS_CHARS]


def main() -> None:
    """Join the cluster, and answer requests."""
    address, seconds = sys.argv[1], float(sys.argv[2])
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # text that libraries print goes to the log
    lock = threading.Lock()

    def reply(message: dict[str, Any]) -> None:
        with lock:
            replies.write(json.dumps(message) + "\n")
            replies.flush()

    def give_up() -> None:
        reply({"error": f"could not join through this address within {seconds:g} s"})
        os._exit(1)

    limit = threading.Timer(seconds, give_up)  # Ray retries for minutes
    limit.start()
    try:
        cluster = JoinedCluster(address)
    except Exception as error:  # noqa: BLE001  # of Ray and of gRPC
        reply({"error": _words(error)})
        os._exit(1)
    limit.cancel()
    reply({})

    def answer(request: dict[str, Any]) -> None:
        try:
            result = getattr(cluster, request["method"])(**request["arguments"])
        except Exception as error:  # noqa: BLE001  # whatever it is, the daemon waits for an answer
            result = {"error": _words(error)}
        reply({"id": request["id"], **result})

    with concurrent.futures.ThreadPoolExecutor(MAX_THREADS_COUNT) as threads:
        for line in sys.stdin:
            threads.submit(answer, json.loads(line))
        os._exit(0)


if __name__ == "__main__":
    main()
