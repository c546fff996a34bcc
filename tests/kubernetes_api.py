"""A Kubernetes API server as far as the launcher needs one, with two nodes that run the commands of Pods.

``python kubernetes_api.py FOLDER`` serves until it is stopped, using only the standard library. It is strict: it
checks objects field by field and refuses unknown fields. The daemon may do what the Role of configs/kubernetes allows.
The schemas are those of Kubernetes 1.37, limited to the fields that the launcher sets.

Pods share the network of this machine, each with its own address in 127.0.0.0/8. The mounts of a Pod are folders; in
the container's command and environment, the folder's path replaces the path of the mount.
"""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid
from typing import Any

NODES = {"node-1": {"disk": "ssd"}, "node-2": {"disk": "ssd"}}
CPUS_COUNT = 8

ALLOWED = "daemon-token"
ADMIN = "admin-token"


class Refused(Exception):
    """An answer with a Status object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


# --- schemas ----------------------------------------------------------------------------------------------------------


class Map:
    """An object with arbitrary keys whose values are texts that match a pattern."""

    def __init__(self, pattern: str = r"[\s\S]*") -> None:
        self.pattern = pattern


NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
QUANTITY = r"\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?"
LABELS = Map(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
OWNER = {"apiVersion!": "v1|batch/v1", "kind!": "Job", "name!": NAME, "uid!": r"[0-9a-f-]{36}"}
METADATA = {"name!": NAME, "labels": LABELS, "annotations": Map(), "ownerReferences": [OWNER]}
PROBE = {
    "tcpSocket!": {"port!": "agent"},
    **dict.fromkeys(("periodSeconds", "timeoutSeconds", "failureThreshold"), int),
}
EXPRESSION = {"key!": str, "operator!": "In|NotIn|Exists|DoesNotExist|Gt|Lt", "values": [str]}
CONTAINER = {
    "name!": r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
    "image!": r"\S+",
    "command": [str],
    "env": [
        {
            "name!": r"[-._a-zA-Z][-._a-zA-Z0-9]*",
            "value": str,
            "valueFrom": {"fieldRef!": {"fieldPath!": r"status\.podIP|spec\.nodeName"}},
        }
    ],
    "ports": [{"name": r"[a-z0-9-]{1,15}", "containerPort!": int}],
    "volumeMounts": [{"name!": NAME, "mountPath!": r"[^:]+", "readOnly": bool}],
    "resources": {"requests": Map(QUANTITY), "limits": Map(QUANTITY)},
    "securityContext": {
        "allowPrivilegeEscalation": bool,
        "readOnlyRootFilesystem": bool,
        "capabilities": {"drop": [str]},
    },
    "startupProbe": PROBE,
    "livenessProbe": PROBE,
}
POD = {
    "restartPolicy!": "Never|OnFailure",  # a Job accepts no other value
    "automountServiceAccountToken": bool,
    "enableServiceLinks": bool,
    **dict.fromkeys(("serviceAccountName", "priorityClassName", "runtimeClassName", "schedulerName"), NAME),
    "imagePullSecrets": [{"name!": NAME}],
    "terminationGracePeriodSeconds": int,
    "activeDeadlineSeconds": int,
    "nodeSelector": LABELS,
    "securityContext": {
        "runAsNonRoot": bool,
        **dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), int),
        "fsGroupChangePolicy": "Always|OnRootMismatch",
        "seccompProfile": {"type!": "RuntimeDefault|Unconfined|Localhost"},
    },
    "containers!": [CONTAINER],
    "volumes": [
        {
            "name!": NAME,
            "secret": {"secretName!": NAME, "defaultMode": int},
            "emptyDir": {"medium": "|Memory"},
            "persistentVolumeClaim": {"claimName!": NAME},
            "hostPath": {"path!": r"/.*", "type": "|Directory"},
        }
    ],
    "tolerations": [
        {
            "key": str,
            "operator": "Exists|Equal",
            "value": str,
            "effect": "NoSchedule|PreferNoSchedule|NoExecute",
        }
    ],
    "affinity": {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight!": int, "preference!": {"matchExpressions": [EXPRESSION]}}
            ]
        }
    },
}
JOB = {
    "apiVersion!": "batch/v1",
    "kind!": "Job",
    "metadata!": METADATA,
    "spec!": {
        "backoffLimit": int,
        "ttlSecondsAfterFinished": int,
        "template!": {"metadata": {"labels": LABELS, "annotations": Map()}, "spec!": POD},
    },
}
SECRET = {
    "apiVersion!": "v1",
    "kind!": "Secret",
    "metadata!": METADATA,
    "type": "Opaque",
    "immutable": bool,
    "stringData": Map(),
}
POLICY = {
    "apiVersion!": r"networking\.k8s\.io/v1",
    "kind!": "NetworkPolicy",
    "metadata!": METADATA,
    "spec!": {
        "podSelector!": {"matchLabels": LABELS},
        "policyTypes": ["Ingress|Egress"],
        "ingress": [
            {
                "from": [
                    {"podSelector": {"matchLabels": LABELS}, "ipBlock": {"cidr!": r"[0-9a-fA-F.:]+/\d{1,3}"}}
                ]
            }
        ],
    },
}
SCHEMAS: dict[str, Any] = {"jobs": JOB, "secrets": SECRET, "networkpolicies": POLICY}


def check(value: Any, schema: Any, path: str = "") -> None:
    """Raise `Refused` unless a value matches the schema exactly."""
    if isinstance(schema, dict):
        _need(isinstance(value, dict), path, "must be an object")
        fields = {name.removesuffix("!"): inner for name, inner in schema.items()}
        for name in value:
            _need(name in fields, f"{path}.{name}", "unknown field")
            check(value[name], fields[name], f"{path}.{name}")
        for name in schema:
            _need(not name.endswith("!") or name[:-1] in value, f"{path}.{name[:-1]}", "Required value")
    elif isinstance(schema, list):
        _need(isinstance(value, list), path, "must be a list")
        for number, child in enumerate(value):
            check(child, schema[0], f"{path}[{number}]")
    elif isinstance(schema, Map):
        _need(isinstance(value, dict), path, "must be an object")
        for name, child in value.items():
            check(child, schema.pattern, f"{path}.{name}")
    elif isinstance(schema, str):
        _need(isinstance(value, str), path, "must be a string")
        _need(bool(re.fullmatch(schema, value)), path, f"Invalid value: {value!r}")
    else:
        _need(type(value) is schema, path, f"must be of type {schema.__name__}")


def _need(fits: bool, path: str, words: str) -> None:
    if not fits:
        raise Refused(422, "Invalid", f"{path.lstrip('.')}: {words}")


def check_pod(spec: dict[str, Any]) -> None:
    """Check what a schema cannot express."""
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    for volume in spec.get("volumes", ()):
        _need(len(volume) == 2, f"volumes.{volume['name']}", "must be of one kind")
    for container in spec["containers"]:
        ports = {port.get("name") for port in container.get("ports", ())}
        for mount in container.get("volumeMounts", ()):
            _need(mount["name"] in volumes, f"volumeMounts.{mount['name']}", "Not found")
        for probe in ("startupProbe", "livenessProbe"):
            if probe in container:
                _need(container[probe]["tcpSocket"]["port"] in ports, probe, "its port is not there")
        resources = container.get("resources", {})
        for name, limit in resources.get("limits", {}).items():
            quantity = resources.get("requests", {}).get(name, limit)
            _need("/" not in name or quantity == limit, name, "must be equal to its limit")
    security = spec.get("securityContext", {})
    _need(not (security.get("runAsNonRoot") and security.get("runAsUser") == 0), "runAsUser", "is root")


# --- Pods -------------------------------------------------------------------------------------------------------------


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def node(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {
            "addresses": [{"type": "InternalIP", "address": f"10.0.0.{name[-1]}"}],
            "allocatable": {"cpu": f"{CPUS_COUNT - 1}910m", "memory": "16393244Ki", "pods": "110"},
            "conditions": [
                {"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory"},
                {"type": "Ready", "status": "True", "reason": "KubeletReady"},
            ],
        },
    }


class Cluster:
    """All objects by kind and name. Tests set ``faults``."""

    def __init__(self, folder: pathlib.Path, rules: list[dict[str, Any]]) -> None:
        self.folder = folder
        self.rules = rules
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.objects: dict[str, dict[str, dict[str, Any]]] = {
            kind: {} for kind in ("jobs", "secrets", "networkpolicies", "pods", "events")
        }
        self.objects["nodes"] = {name: node(name, labels) for name, labels in NODES.items()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.faults: dict[str, Any] = {}
        self.asked: set[str] = set()
        self.versions = itertools.count(1)
        number = os.getpid()
        self.network = (
            f"127.{64 + number % 128}.{number // 128 % 254}"  # differs from that of a neighbouring cluster
        )
        self.addresses = itertools.count(2)

    def create(self, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        check(given, SCHEMAS[kind])
        name = given["metadata"]["name"]
        if name in self.objects[kind]:
            raise Refused(409, "AlreadyExists", f'{kind} "{name}" already exists')
        for owner in given["metadata"].get("ownerReferences", ()):
            job = self.objects["jobs"].get(owner["name"])
            _need(bool(job) and job["metadata"]["uid"] == owner["uid"], "ownerReferences", "there is none")
        if kind == "jobs":
            check_pod(given["spec"]["template"]["spec"])
        given["metadata"] |= {"uid": str(uuid.uuid4()), "namespace": "default", "creationTimestamp": now()}
        self.objects[kind][name] = given
        self.changed.notify_all()
        if kind == "jobs":
            given["status"] = {}
            self.begin(given)
        return given

    def get(self, kind: str, name: str) -> dict[str, Any]:
        if name not in self.objects[kind]:
            raise Refused(404, "NotFound", f'{kind} "{name}" not found')
        return self.objects[kind][name]

    def delete(self, kind: str, name: str) -> dict[str, Any]:
        target = self.get(kind, name)
        if kind == "pods":
            self.end_pod(name)
            return target
        del self.objects[kind][name]
        for owned in self.objects:
            for owned_name, owned_object in list(self.objects[owned].items()):
                owners = [owner["uid"] for owner in owned_object["metadata"].get("ownerReferences", ())]
                if target["metadata"]["uid"] in owners:
                    self.delete(owned, owned_name)
        return target

    def complain(self, name: str, reason: str, message: str) -> None:
        event = {"metadata": {}, "involvedObject": {"name": name}, "type": "Warning", "lastTimestamp": now()}
        self.objects["events"][str(next(self.versions))] = {**event, "reason": reason, "message": message}

    def begin(self, job: dict[str, Any]) -> None:
        """Act as the Job controller: create a Pod for a Job."""
        name = job["metadata"]["name"]
        if quota := self.faults.get("quota"):
            self.complain(
                name, "FailedCreate", f'Error creating: pods "{name}-x" is forbidden: exceeded quota: {quota}'
            )
            return
        template = json.loads(json.dumps(job["spec"]["template"]))
        pod = {
            "metadata": {
                "name": f"{name}-{uuid.uuid4().hex[:5]}",
                "labels": {**template["metadata"]["labels"], "job-name": name},
                "uid": str(uuid.uuid4()),
                "ownerReferences": [{"uid": job["metadata"]["uid"], "name": name}],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        self.objects["pods"][pod["metadata"]["name"]] = pod
        self.place(pod)

    def place(self, pod: dict[str, Any]) -> None:
        """Act as the scheduler."""
        spec, status = pod["spec"], pod["status"]
        resource_requests = spec["containers"][0].get("resources", {}).get("requests", {})
        node_selector = spec.get("nodeSelector", {})
        problem = ""
        if any("gpu" in name for name in resource_requests):
            [gpu] = [name for name in resource_requests if "gpu" in name]
            problem = f"{len(NODES)} Insufficient {gpu}"
        elif int(resource_requests.get("cpu", 1)) > CPUS_COUNT:
            problem = f"{len(NODES)} Insufficient cpu"
        fits = [name for name, labels in NODES.items() if node_selector.items() <= labels.items()]
        if not fits:
            problem = f"{len(NODES)} node(s) didn't match Pod's node affinity/selector"
        if problem:
            message = f"0/{len(NODES)} nodes are available: {problem}."
            status["conditions"] = [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
            ]
            return
        avoided = [
            name
            for term in spec.get("affinity", {})
            .get("nodeAffinity", {})
            .get("preferredDuringSchedulingIgnoredDuringExecution", ())
            for expression in term["preference"]["matchExpressions"]
            for name in expression["values"]
        ]
        spec["nodeName"] = min(fits, key=lambda name: (name in avoided, name))
        status["conditions"] = [{"type": "PodScheduled", "status": "True"}]
        if not self.stuck(pod):
            threading.Thread(target=self.run, args=(pod,), daemon=True).start()

    def stuck(self, pod: dict[str, Any]) -> bool:
        """Return whether the Pod's node cannot start it, as the node reports."""
        name, status, spec = pod["metadata"]["name"], pod["status"], pod["spec"]
        image = spec["containers"][0]["image"]
        claims = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in spec["volumes"]]
        if "missing" in claims:
            status["containerStatuses"] = [{"state": {"waiting": {"reason": "ContainerCreating"}}}]
            self.complain(name, "FailedMount", 'persistentvolumeclaim "missing" not found')
            return True
        if image.endswith(":missing"):
            back_off = f'Back-off pulling image "{image}": ErrImagePull: not found'
            waiting_state = {"reason": "ImagePullBackOff", "message": back_off}
            status["containerStatuses"] = [{"state": {"waiting": waiting_state}}]
            return True
        return False

    def run(self, pod: dict[str, Any]) -> None:
        """Act as a kubelet: run the only container of a Pod."""
        status, spec = pod["status"], pod["spec"]
        container = spec["containers"][0]
        name = pod["metadata"]["name"]
        mounts = {}
        secrets = {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
        with self.changed:
            self.changed.wait_for(
                lambda: name not in self.objects["pods"] or secrets <= self.objects["secrets"].keys()
            )
            if name not in self.objects["pods"]:
                return
            sources = {volume["name"]: volume for volume in spec["volumes"]}
            for mount in container["volumeMounts"]:
                volume = sources[mount["name"]]
                if "secret" in volume:
                    place = self.folder / name / mount["name"]
                    place.mkdir(parents=True)
                    secret = self.objects["secrets"][volume["secret"]["secretName"]]
                    for file, text in secret["stringData"].items():
                        (place / file).write_text(text)
                    mounts[mount["mountPath"]] = str(place)
            status |= {"podIP": f"{self.network}.{next(self.addresses)}", "startTime": now()}

        def mapped(text: str) -> str:
            for path, place in mounts.items():
                if text == path or text.startswith(f"{path}/"):
                    return place + text[len(path) :]
            return text

        fields = {"status.podIP": status["podIP"], "spec.nodeName": spec["nodeName"]}
        environment = {
            entry["name"]: entry["value"]
            if "value" in entry
            else fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
            for entry in container["env"]
        }
        with (self.folder / name).with_suffix(".log").open("wb") as log, self.lock:
            process = self.processes[name] = subprocess.Popen(
                [mapped(word) for word in container["command"]],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            status["phase"] = "Running"
            status["containerStatuses"] = [{"ready": False, "state": {"running": {"startedAt": now()}}}]
        port = container["ports"][0]["containerPort"]
        while process.poll() is None and not listens(status["podIP"], port):
            time.sleep(0.05)  # as a probe does
        with self.lock:
            status["containerStatuses"][0]["ready"] = process.poll() is None
        code = process.wait()
        with self.lock:
            if name not in self.objects["pods"] or self.faults.get("lost") == spec["nodeName"]:
                return
            exit_code = code if code >= 0 else 128 - code
            terminated_state = {"exitCode": exit_code, "reason": "Error" if exit_code else "Completed"}
            status["phase"] = "Failed" if exit_code else "Succeeded"
            status["containerStatuses"] = [{"ready": False, "state": {"terminated": terminated_state}}]
            if "deletionTimestamp" in pod["metadata"]:
                del self.objects["pods"][name]
            for owner in pod["metadata"]["ownerReferences"]:
                if (job := self.objects["jobs"].get(owner["name"])) is not None:
                    kind, reason = ("Failed", "BackoffLimitExceeded") if exit_code else ("Complete", "")
                    condition = {"type": kind, "status": "True", "reason": reason}
                    job["status"]["conditions"] = [condition]

    def end_pod(self, name: str) -> None:
        pod = self.objects["pods"][name]
        pod["metadata"]["deletionTimestamp"] = now()
        pod["status"].setdefault("conditions", []).append(
            {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByTest",
                "message": "the Pod was deleted by a test",
            }
        )
        process = self.processes.get(name)
        if process is None or process.poll() is not None:
            del self.objects["pods"][name]
            self.changed.notify_all()
            return
        process.terminate()
        killer = threading.Timer(pod["spec"]["terminationGracePeriodSeconds"], process.kill)
        killer.daemon = True
        killer.start()

    def lose(self, node: str) -> None:
        """Kill everything that runs on a node before the control plane learns of it."""
        self.faults["lost"] = node
        for name, pod in self.objects["pods"].items():
            if pod["spec"].get("nodeName") == node and name in self.processes:
                for pid in descendants(self.processes[name].pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def listens(host: str, port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex((host, port)) == 0


def descendants(pid: int) -> list[int]:
    pids = [pid]
    for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            pids += descendants(int(child))
    return pids


# --- HTTP -------------------------------------------------------------------------------------------------------------

PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[a-z0-9.]+)/v1)(?P<namespace>/namespaces/default)?/(?P<kind>[a-z]+)"
    r"(?:/(?P<name>[a-z0-9.-]+)(?P<log>/log)?)?"
)
GROUPS = {"jobs": "batch", "networkpolicies": "networking.k8s.io"}
VERBS = {"POST": "create", "DELETE": "delete"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def answer(self) -> None:
        cluster = self.cluster
        body = self.body()
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        try:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            with cluster.lock:
                if token not in (ALLOWED, ADMIN) or (token == ALLOWED and cluster.faults.get("unauthorized")):
                    raise Refused(401, "Unauthorized", "Unauthorized")
            if token == ADMIN and url.path == "/faults":
                with cluster.lock:
                    cluster.faults = json.loads(body)
                    if "lose" in cluster.faults:
                        cluster.lose(cluster.faults["lose"])
                self.send(200, {})
                return
            if token == ADMIN and url.path == "/all":
                with cluster.lock:
                    self.send(200, {**cluster.objects, "asked": sorted(cluster.asked)})
                return
            if url.path == "/version":
                self.send(200, {"major": "1", "minor": "32", "gitVersion": "v1.32.4"})
                return
            with cluster.lock:
                self.send(200, self.done(url.path, query, body, token))
        except Refused as error:
            status = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": error.reason,
                "message": error.message,
                "code": error.code,
            }
            self.send(error.code, status)

    def done(self, path: str, query: dict[str, str], body: bytes, token: str) -> Any:
        cluster = self.cluster
        path_match = PATH.fullmatch(path)
        if path_match is None or path_match["kind"] not in cluster.objects:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        kind, name = path_match["kind"], path_match["name"]
        group = path_match["group"] or ""
        if group != GROUPS.get(kind, ""):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        verb = VERBS.get(self.command) or ("get" if name else "list")
        resource = f"{kind}/log" if path_match["log"] else kind
        if (kind == "nodes") == bool(path_match["namespace"]):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        cluster.asked.add(f"{verb} {resource}")
        is_allowed = any(
            (rule["kind"] == "Role") == bool(path_match["namespace"])
            and group in rule["apiGroups"]
            and resource in rule["resources"]
            and verb in rule["verbs"]
            for rule in cluster.rules
        )
        if token != ADMIN and (not is_allowed or cluster.faults.get("forbidden") == kind):
            message = f'{kind} is forbidden: User "portico" cannot {verb} resource "{resource}" in API group "{group}"'
            raise Refused(403, "Forbidden", message)
        if self.headers.get("Content-Type", "application/json") != "application/json":
            raise Refused(415, "UnsupportedMediaType", f"the body is {self.headers.get('Content-Type')}")
        if verb == "create":
            return cluster.create(kind, json.loads(body))
        if verb == "delete":
            return cluster.delete(kind, name)
        if path_match["log"]:
            return (cluster.folder / name).with_suffix(".log").read_text()
        if verb == "get":
            return cluster.get(kind, name)
        return {"kind": "List", "apiVersion": "v1", "items": self.selected(kind, query)}

    def selected(self, kind: str, query: dict[str, str]) -> list[dict[str, Any]]:
        def pairs(name: str) -> list[tuple[str, str | None]]:
            return [
                (key, value if equal else None)
                for key, equal, value in (
                    clause.partition("=") for clause in query.get(name, "").split(",") if clause
                )
            ]

        def field(thing: dict[str, Any], path: str) -> Any:
            for part in path.split("."):
                thing = thing.get(part, {})
            return thing

        def labels(thing: dict[str, Any]) -> dict[str, str]:
            metadata_labels: dict[str, str] = thing["metadata"].get("labels", {})
            return metadata_labels

        return [
            thing
            for thing in self.cluster.objects[kind].values()
            if all(
                key in labels(thing) and value in (None, labels(thing)[key])
                for key, value in pairs("labelSelector")
            )
            and all(field(thing, key) == value for key, value in pairs("fieldSelector"))
        ]

    def send(self, code: int, value: Any) -> None:
        plain = isinstance(value, str)
        data = value.encode() if plain else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if plain else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Print only errors."""


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    Handler.cluster = Cluster(folder / "pods", json.loads((folder / "rules.json").read_text()))
    Handler.cluster.folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    draft = folder / "port.new"
    draft.write_text(str(server.server_address[1]))
    draft.rename(folder / "port")
    server.serve_forever()


if __name__ == "__main__":
    main()
