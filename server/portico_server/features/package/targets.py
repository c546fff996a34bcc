"""The files that run a package elsewhere: an image, Docker Compose, Kubernetes, Slurm. Texts from values, no I/O."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.features.package.wheel import wheel_name
from portico_server.launchers.pods import CONTAINER_SECURITY, container_resources, new_object, pod_security

Target: TypeAlias = Literal["image", "compose", "kubernetes", "slurm"]

TARGETS: Final[tuple[Target, ...]] = ("image", "compose", "kubernetes", "slurm")

USER_NUMBER: Final = 8642
"""User id in the image, which is not root."""

PORT: Final = 8642

MAX_LABEL_CHARS: Final = 40

_WORD: Final = re.compile(r"[A-Za-z0-9_.:/@=,+%-]{1,200}")
_HOST: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """An operator's options for the target. Empty and 0 mean the default, or the target's own value.

    ``image`` is the image's name and tag; ``base`` is the Python image that it is built from, preferably with a
    digest. ``host`` is the host name of an Ingress. The target runs ``replicas`` up to ``max_replicas`` daemons;
    several daemons need a PostgreSQL. ``gpus`` and ``memory_mb`` apply to each daemon; ``storage_gb`` is the size of
    the volume. ``partition``, ``account``, ``time`` and ``gres`` are options of sbatch.
    """

    image: str = ""
    base: str = "python:3.13-slim"
    host: str = ""
    replicas: int = 1
    max_replicas: int = 0
    gpus: int = 0
    cpus: int = 2
    memory_mb: int = 4096
    storage_gb: int = 20
    partition: str = ""
    account: str = ""
    time: str = ""
    gres: str = ""

    def check(self) -> None:
        """Raise `InvalidRequest` for values that cannot be written to a file unchanged."""
        for name in ("image", "base", "partition", "account", "time", "gres"):
            value = getattr(self, name)
            if value and not _WORD.fullmatch(value):
                raise InvalidRequest(
                    f"'{name}' is {value[:80]!r}, but must be up to 200 letters, digits or characters from "
                    "._:/@=,+%- without spaces.",
                    param=f"options.{name}",
                )
        if self.host and not _HOST.fullmatch(self.host):
            raise InvalidRequest(
                f"'host' is {self.host[:80]!r}, but must be a name such as bread.example.org.",
                param="options.host",
            )
        if self.max_replicas and self.max_replicas < self.replicas:
            raise InvalidRequest(
                f"'max_replicas' is {self.max_replicas}, less than the {self.replicas} of 'replicas'.",
                param="options.max_replicas",
            )

    @property
    def several(self) -> bool:
        """Return whether there can be more than one daemon; several daemons share a PostgreSQL."""
        return max(self.replicas, self.max_replicas) > 1


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """The facts about a package that its files contain.

    ``notes``: messages for people; ``digest``: the digest of the wheel and the list of packages, which determine an
    environment.
    """

    app: str
    version: int
    portico: str
    notes: tuple[str, ...]
    digest: str

    @property
    def label(self) -> str:
        """Return the app's name in a form that image registries and Kubernetes accept."""
        app_label = re.sub(r"[^a-z0-9]+", "-", self.app.lower()).strip("-")[:MAX_LABEL_CHARS].strip("-")
        return app_label if app_label and app_label[0].isalpha() else f"app-{app_label}".strip("-")

    def image(self, options: TargetOptions) -> str:
        """Return the name of the image."""
        return options.image or f"{self.label}:{max(1, self.version)}"


def variables_of(targets: Iterable[Target], options: TargetOptions) -> dict[str, str]:
    """Return the environment variables that these targets need, each with its purpose."""
    variables = {}
    if "compose" in targets:
        variables["POSTGRES_PASSWORD"] = "A password of your choice for the PostgreSQL next to the daemon"  # noqa: S105  # what it is for
    if "kubernetes" in targets and options.several:
        variables["PORTICO_DATABASE"] = (
            "postgresql://USER:PASSWORD@HOST/NAME of the PostgreSQL that the daemons share"
        )
    return variables


def files_of(targets: Iterable[Target], facts: PackageFacts, options: TargetOptions) -> dict[str, str]:
    """Return the files of these targets, keyed by their names in the package."""
    wanted_targets = set(targets)
    target_files = {
        "README.md": _readme([target for target in TARGETS if target in wanted_targets], facts, options)
    }
    if wanted_targets & {"image", "compose", "kubernetes"}:
        target_files |= {"Dockerfile": _dockerfile(options), ".dockerignore": _DOCKERIGNORE}
    if "compose" in wanted_targets:
        target_files["compose.yaml"] = _compose(facts, options)
    if "kubernetes" in wanted_targets:
        target_files |= _kubernetes(facts, options)
    if "slurm" in wanted_targets:
        target_files["slurm.sh"] = _slurm(facts, options)
    return target_files


_DOCKERIGNORE: Final = "*\n!app\n!wheels\n!requirements.lock\n"

_HEALTHCHECK: Final = (
    "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORTICO_PORT']), "
    "timeout=4); c.request('GET', '/ready'); sys.exit(c.getresponse().status != 200)"
)


def _dockerfile(options: TargetOptions) -> str:
    return f"""\
# Two stages: the first installs what is pinned in requirements.lock, and Portico from its wheel; the second runs it.
# Best with a base that is pinned too: portico package --base python@sha256:DIGEST
FROM {options.base} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/portico
COPY requirements.lock requirements.lock
RUN /opt/portico/bin/python -m pip install --require-hashes --requirement requirements.lock
COPY wheels wheels
RUN /opt/portico/bin/python -m pip install --no-deps wheels/{wheel_name()} && touch /opt/portico/.portico-image

FROM {options.base}
# libgomp1 is for the llama.cpp server; bubblewrap is the sandbox of the code tools, where the container may use it;
# tini ends what tools leave behind.
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap libgomp1 tini \\
    && rm -rf /var/lib/apt/lists/*
# The group 0 owns the data, so that any user of this group can run the image, as OpenShift does.
RUN useradd --uid {USER_NUMBER} --gid 0 --no-create-home --home-dir /data portico \\
    && install --directory --owner portico --group 0 --mode 0770 /data
COPY --from=build /opt/portico /opt/portico
COPY app /app
# Everything that is written is in /data and /tmp: the rest may be read-only. The daemon needs PORTICO_API_KEY.
ENV PATH=/opt/portico/bin:$PATH HOME=/data PORTICO_HOME=/data PORTICO_HOST=0.0.0.0 PORTICO_PORT={PORT}
USER {USER_NUMBER}
WORKDIR /data
VOLUME /data
EXPOSE {PORT}
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s CMD ["python", "-I", "-c", "{_HEALTHCHECK}"]
ENTRYPOINT ["tini", "--", "python", "-P", "-m", "portico_server", "serve", "--file", "/app/portico.yaml"]
"""


def _compose(facts: PackageFacts, options: TargetOptions) -> str:
    portico: dict[str, Any] = {
        "image": facts.image(options),
        "build": ".",
        "restart": "unless-stopped",
        "env_file": ".env",
        "environment": {
            "PORTICO_DATABASE": "postgresql://portico@postgres/portico",
            "PGPASSWORD": "${POSTGRES_PASSWORD:?write it into .env}",
            **({"PORTICO_ALLOWED_HOSTS": options.host} if options.host else {}),
        },
        "ports": [f"127.0.0.1:{PORT}:{PORT}"],
        "volumes": ["home:/data"],
        "read_only": True,
        "tmpfs": ["/tmp"],  # noqa: S108  # of the container
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": f"{options.memory_mb}m",
        "depends_on": {"postgres": {"condition": "service_healthy"}},
    }
    if options.gpus:
        device = {"driver": "nvidia", "count": options.gpus, "capabilities": ["gpu"]}
        portico["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    document = {
        "name": facts.label,
        "services": {
            "portico": portico,
            "postgres": {
                "image": "postgres:17",
                "restart": "unless-stopped",
                "environment": {
                    "POSTGRES_USER": "portico",
                    "POSTGRES_DB": "portico",
                    "POSTGRES_PASSWORD_FILE": "/run/secrets/postgres_password",
                },
                "secrets": ["postgres_password"],
                "volumes": ["database:/var/lib/postgresql/data"],
                "healthcheck": {
                    "test": ["CMD", "pg_isready", "--username", "portico", "--dbname", "portico"],
                    "interval": "5s",
                    "timeout": "5s",
                    "retries": 20,
                },
            },
        },
        "volumes": {"home": {}, "database": {}},
        "secrets": {"postgres_password": {"environment": "POSTGRES_PASSWORD"}},
    }
    return yaml_text(
        document, "docker compose up --build: Portico with PostgreSQL, reachable only from this machine."
    )


def _kubernetes(facts: PackageFacts, options: TargetOptions) -> dict[str, str]:
    """Return plain manifests and a ``kustomization.yaml``."""
    documents: dict[str, Mapping[str, Any]] = {
        "statefulset.yaml": _stateful_set(facts, options),
        "service.yaml": _service(facts),
        "networkpolicy.yaml": _network_policy(facts),
    }
    if options.several:
        documents["disruption.yaml"] = _disruption_budget(facts)
        documents["files.yaml"] = _claim(f"{facts.label}-files", options.storage_gb, "ReadWriteMany")
    if options.host:
        documents["ingress.yaml"] = _ingress(facts, options.host)
    if options.max_replicas > options.replicas:
        documents["autoscaler.yaml"] = _autoscaler(facts, options)
    name, tag = _name_and_tag(facts.image(options))
    kustomization: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(documents),
        "labels": [{"pairs": _labels(facts)}],
        "images": [{"name": name, "newName": name, **tag}],
        "secretGenerator": [{"name": f"{facts.label}-env", "envs": [".env"]}],
    }
    hints = {
        "statefulset.yaml": "The daemons. More than one replica needs PostgreSQL (PORTICO_DATABASE in .env).",
        "disruption.yaml": "When nodes are drained, the daemons move one after another.",
        "files.yaml": "The contents of files. All daemons share this volume: the storage class must support "
        "ReadWriteMany.",
        "autoscaler.yaml": "Scales by the number of model calls, a metric that Prometheus (with an admin key) and its "
        "adapter provide.",
    }
    manifests = {
        f"kubernetes/{name}": yaml_text(document, hints.get(name, "")) for name, document in documents.items()
    }
    manifests["kubernetes/kustomization.yaml"] = yaml_text(
        kustomization, "kubectl apply --kustomize kubernetes, with this package's .env next to this file."
    )
    return manifests


def _name_and_tag(image: str) -> tuple[str, dict[str, str]]:
    name, at, digest = image.partition("@")
    if at:
        return name, {"digest": digest}
    head, colon, tag = image.rpartition(":")
    return (head, {"newTag": tag}) if colon and "/" not in tag else (image, {"newTag": "latest"})


def _labels(facts: PackageFacts) -> dict[str, str]:
    return {"app.kubernetes.io/name": facts.label, "app.kubernetes.io/part-of": "portico"}


def _probe(path: str, **options: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 5, **options}


def _stateful_set(facts: PackageFacts, options: TargetOptions) -> dict[str, Any]:
    name = facts.label
    hosts = [
        name,
        f"{name}.$(NAMESPACE)",
        f"{name}.$(NAMESPACE).svc",
        f"{name}.$(NAMESPACE).svc.cluster.local",
    ]
    environment: list[dict[str, Any]] = [
        {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {
            "name": "PORTICO_ALLOWED_HOSTS",
            "value": ",".join([*hosts, *([options.host] if options.host else [])]),
        },
    ]
    mounts = [{"name": "home", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    if options.several:
        secret = {"name": f"{name}-env", "key": "PORTICO_DATABASE"}
        environment += [
            {"name": "PORTICO_DATABASE", "valueFrom": {"secretKeyRef": secret}},
            {"name": "PORTICO_FILES", "value": "/files"},
        ]
        mounts.append({"name": "files", "mountPath": "/files"})
        volumes.append({"name": "files", "persistentVolumeClaim": {"claimName": f"{name}-files"}})
    container = {
        "name": "portico",
        "image": facts.image(options),
        "envFrom": [{"secretRef": {"name": f"{name}-env"}}],
        "env": environment,
        "ports": [{"name": "http", "containerPort": PORT}],
        "volumeMounts": mounts,
        "resources": container_resources(options.cpus, options.memory_mb, options.gpus),
        "securityContext": dict(CONTAINER_SECURITY),
        # The first start imports the package's stores and may take half an hour.
        "startupProbe": _probe("/health", periodSeconds=5, failureThreshold=360),
        "livenessProbe": _probe("/health", periodSeconds=10, failureThreshold=6),
        "readinessProbe": _probe("/ready", periodSeconds=5, failureThreshold=2),
    }
    spec = {
        "serviceName": name,
        "replicas": options.replicas,
        "selector": {"matchLabels": _labels(facts)},
        "template": {
            "metadata": {"labels": _labels(facts)},
            "spec": {
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 60,
                "securityContext": pod_security(USER_NUMBER, USER_NUMBER),
                "containers": [container],
                "volumes": volumes,
            },
        },
        "volumeClaimTemplates": [
            {"metadata": {"name": "home"}, "spec": _storage(options.storage_gb, "ReadWriteOnce")}
        ],
    }
    return {**new_object("StatefulSet", "apps/v1", name, _labels(facts)), "spec": spec}


def _disruption_budget(facts: PackageFacts) -> dict[str, Any]:
    return {
        **new_object("PodDisruptionBudget", "policy/v1", facts.label, _labels(facts)),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _labels(facts)}},
    }


def _storage(size_gb: int, mode: str) -> dict[str, Any]:
    return {"accessModes": [mode], "resources": {"requests": {"storage": f"{size_gb}Gi"}}}


def _claim(name: str, size_gb: int, mode: str) -> dict[str, Any]:
    return {**new_object("PersistentVolumeClaim", "v1", name), "spec": _storage(size_gb, mode)}


def _service(facts: PackageFacts) -> dict[str, Any]:
    return {
        **new_object("Service", "v1", facts.label, _labels(facts)),
        "spec": {
            "selector": _labels(facts),
            # Each client stays with one daemon, which has its loaded models and cached prompts.
            "sessionAffinity": "ClientIP",
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    }


def _network_policy(facts: PackageFacts) -> dict[str, Any]:
    """Return a policy that allows one inbound port and all outbound traffic.

    The addresses of models, tools and the database are unknown, so outbound traffic cannot be restricted.
    """
    return {
        **new_object("NetworkPolicy", "networking.k8s.io/v1", facts.label, _labels(facts)),
        "spec": {
            "podSelector": {"matchLabels": _labels(facts)},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": "http", "protocol": "TCP"}]}],
        },
    }


_INGRESS_ANNOTATIONS: Final[Mapping[str, str]] = {
    f"nginx.ingress.kubernetes.io/{name}": value
    for name, value in {
        "proxy-body-size": "0",
        "proxy-buffering": "off",
        "proxy-read-timeout": "3600",
        "proxy-request-buffering": "off",
        "proxy-send-timeout": "3600",
    }.items()
}
"""What ingress-nginx needs for large uploads, streams and long calls. Other controllers ignore these annotations."""


def _ingress(facts: PackageFacts, host: str) -> dict[str, Any]:
    service = {"name": facts.label, "port": {"name": "http"}}
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": service}}
    ingress = new_object("Ingress", "networking.k8s.io/v1", facts.label, _labels(facts))
    return {
        **ingress,
        "metadata": {**ingress["metadata"], "annotations": dict(_INGRESS_ANNOTATIONS)},
        "spec": {
            "tls": [{"hosts": [host], "secretName": f"{facts.label}-tls"}],
            "rules": [{"host": host, "http": {"paths": [path]}}],
        },
    }


def _autoscaler(facts: PackageFacts, options: TargetOptions) -> dict[str, Any]:
    metric = {
        "type": "Pods",
        "pods": {
            "metric": {"name": "portico_model_calls"},
            "target": {"type": "AverageValue", "averageValue": "8"},
        },
    }
    return {
        **new_object("HorizontalPodAutoscaler", "autoscaling/v2", facts.label, _labels(facts)),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": facts.label},
            "minReplicas": options.replicas,
            "maxReplicas": options.max_replicas,
            "metrics": [metric],
        },
    }


def _slurm(facts: PackageFacts, options: TargetOptions) -> str:
    asked_options = {
        "partition": options.partition,
        "account": options.account,
        "time": options.time,
        "gres": options.gres or (f"gpu:{options.gpus}" if options.gpus else ""),
        "cpus-per-task": str(options.cpus),
        "mem": f"{options.memory_mb}M",
    }
    directives = "\n".join(f"#SBATCH --{name}={value}" for name, value in asked_options.items() if value)
    return f"""\
#!/bin/bash
#SBATCH --job-name=portico-{facts.label}
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --output=portico-%j.log
#SBATCH --signal=B:TERM@120
{directives}
# sbatch slurm.sh, from the folder of this package, which the node must see under the same path. Once the daemon serves,
# its address is in the file 'address'; the file goes when the daemon ends.
set -euo pipefail
cd "${{PORTICO_PACKAGE:-${{SLURM_SUBMIT_DIR:-$(dirname "${{BASH_SOURCE[0]}}")}}}}"
umask 077
if [[ -f .env ]]; then set -a; . ./.env; set +a; fi
: "${{PORTICO_API_KEY:?write it into .env: the daemon is reached over the network}}"

# The environment, made once for these packages; PORTICO_PYTHON names another one that has Portico.
environment=environments/{facts.digest[:16]}
python=${{PORTICO_PYTHON:-$PWD/$environment/bin/python}}
if [[ -z ${{PORTICO_PYTHON:-}} && ! -f $environment/.complete ]]; then
  mkdir -p environments
  exec 9>environments/.lock
  flock --timeout 1800 9
  if [[ ! -f $environment/.complete ]]; then
    rm -rf "$environment"
    "${{PYTHON:-python3}}" -m venv "$environment"
    "$python" -m pip install --disable-pip-version-check --require-hashes --requirement requirements.lock
    "$python" -m pip install --disable-pip-version-check --no-deps {shlex.quote(f"wheels/{wheel_name()}")}
    touch "$environment/.complete"
  fi
  exec 9>&-
fi

host=$(hostname -f 2>/dev/null || hostname)
export PORTICO_HOME=${{PORTICO_HOME:-$PWD/home}} PORTICO_HOST=0.0.0.0 PORTICO_PORT=${{PORTICO_PORT:-0}}
export PORTICO_ALLOWED_HOSTS=${{PORTICO_ALLOWED_HOSTS:+$PORTICO_ALLOWED_HOSTS,}}$host,$(hostname)
lines=$(mktemp -d)
mkfifo "$lines/out"
"$python" -P -m portico_server serve --file app/portico.yaml --quiet >"$lines/out" &
daemon=$!
trap 'rm -rf address "$lines"' EXIT
trap 'kill -TERM "$daemon" 2>/dev/null || true' TERM INT
exec 8<"$lines/out"
if read -r line <&8; then
  port=$(sed -n 's|.*"url": *"http://[^"]*:\\([0-9]*\\)".*|\\1|p' <<<"$line")
  if [[ -n $port ]]; then
    echo "http://$host:$port" >"$lines/address"
    mv "$lines/address" address
  fi
  echo "$line"
fi
status=0
while kill -0 "$daemon" 2>/dev/null; do wait "$daemon" && status=0 || status=$?; done
exit "$status"
"""


_ENVIRONMENT: Final = "cp .env.example .env && chmod 600 .env   # then fill it in"


def _readme(targets: Sequence[Target], facts: PackageFacts, options: TargetOptions) -> str:
    version = f", version {facts.version}" if facts.version else ""
    parts = [
        f"# {facts.app}\n\nThe app `{facts.app}`{version} with its requirements, packaged by Portico "
        f"{facts.portico}. `app/portico.yaml` is its configuration, and `MANIFEST.json` lists the contents "
        "of this package with their SHA-256. The package contains no secrets: `.env.example` lists those "
        "that it needs.\n"
    ]
    parts.append(
        _section(
            "On any machine",
            "Requires Python 3.11 to 3.13. The first start imports the stores; later starts find them and do "
            "nothing.",
            [
                _ENVIRONMENT,
                "python3 -m venv env && env/bin/pip install --require-hashes -r requirements.lock && "
                f"env/bin/pip install --no-deps wheels/{wheel_name()}",
                "set -a && . ./.env && set +a && env/bin/portico up --file app/portico.yaml",
            ],
        )
    )
    image = facts.image(options)
    if "image" in targets:
        parts.append(
            _section(
                "As an image",
                "The root file system can be read-only: data is written to the volume and to /tmp.",
                [
                    _ENVIRONMENT,
                    f"docker build --tag {image} .",
                    f"docker run --read-only --tmpfs /tmp --env-file .env --volume {facts.label}:/data "
                    f"--publish 127.0.0.1:{PORT}:{PORT} {image}",
                ],
            )
        )
    if "compose" in targets:
        parts.append(
            _section(
                "With Docker Compose",
                "Portico with PostgreSQL. Portico stores its files in a volume, and none in S3.",
                [_ENVIRONMENT, "docker compose up --build --detach", "docker compose ps"],
            )
        )
    if "kubernetes" in targets:
        parts.append(
            _section(
                "On Kubernetes",
                "First build the image and push it to the registry from which the cluster pulls."
                + (
                    " Set PORTICO_DATABASE in .env: several daemons share a PostgreSQL."
                    if options.several
                    else ""
                ),
                [
                    "cp .env.example kubernetes/.env && chmod 600 kubernetes/.env   # then fill it in",
                    f"docker build --tag {image} . && docker push {image}",
                    "kubectl apply --kustomize kubernetes",
                ],
            )
        )
    if "slurm" in targets:
        parts.append(
            _section(
                "On Slurm",
                "Run this in a folder that the nodes also see. The first job builds its environment next to "
                "the script.",
                [_ENVIRONMENT, "sbatch slurm.sh", "cat address   # once the daemon serves"],
            )
        )
    if facts.notes:
        parts.append("## Know this\n\n" + "".join(f"- {note}\n" for note in facts.notes))
    return "\n".join(parts)


def _section(title: str, text: str, commands: Sequence[str]) -> str:
    lines = "\n".join(commands)
    return f"## {title}\n\n{text}\n\n```text\n{lines}\n```\n"


def yaml_text(document: Mapping[str, Any], comment: str) -> str:
    """Return a YAML file in the order of ``document``, preceded by a ``comment`` if there is one."""
    import yaml  # imported here, so that only packaging pays for the import

    text: str = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=120)
    return f"# {comment}\n{text}" if comment else text
