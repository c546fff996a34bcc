"""A Kubernetes cluster as far as the launcher needs one: `tests/kubernetes_api.py` behind a real ``kubectl``."""

from __future__ import annotations

import contextlib
import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.daemon import ROOT
from tests.guarded import Guarded
from tests.kubernetes_api import ADMIN, ALLOWED

RIGHTS = ROOT / "configs" / "kubernetes" / "launcher.yaml"

IMAGE = "registry.example.org/portico:1"


def missing() -> str:
    """Return why no cluster is available here, or an empty string if one is."""
    if any(shutil.which(name) is None for name in ("kubectl", "openssl")):
        return "no kubectl here: apt-get install kubernetes-client openssl"
    return ""


def documented_rules() -> list[dict[str, Any]]:
    """Return the rules of the roles that an operator gives the daemon, each with the ``kind`` of its role."""
    documents = yaml.safe_load_all(RIGHTS.read_text(encoding="utf-8"))
    return [
        {**rule, "kind": document["kind"]}
        for document in documents
        if document["kind"] in ("Role", "ClusterRole")
        for rule in document["rules"]
    ]


class KubernetesCluster:
    """A cluster whose ``settings`` and ``environment`` are what a daemon needs to use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._certificate = folder / "server.pem"
        subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        files = ("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"))
        subprocess.run(
            ["openssl", "req", "-x509", "-nodes", "-days", "2", *curve, *subject, *files],
            check=True,
            capture_output=True,
        )
        self._certificate.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
        (folder / "rules.json").write_text(json.dumps(documented_rules()))
        program = Path(__file__).with_name("kubernetes_api.py")
        self._server = Guarded([sys.executable, "-P", str(program), str(folder)], folder / "out", {})
        self.settings = {"launcher": "kubernetes", "kubernetes_image": IMAGE}
        self.environment = {
            "KUBECONFIG": str(self.folder / "config"),
            "KUBECACHEDIR": str(self.folder / "cache"),
        }

    def start(self) -> None:
        port = self.folder / "port"
        self.wait_until(port.exists)
        url = f"https://127.0.0.1:{port.read_text()}"
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [
                {
                    "name": "here",
                    "cluster": {"server": url, "certificate-authority": str(self.folder / "cert.pem")},
                }
            ],
            "users": [{"name": "portico", "user": {"token": ALLOWED}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "portico"}}],
        }
        (self.folder / "config").write_text(yaml.safe_dump(configuration))
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {ADMIN}"},
            verify=ssl.create_default_context(cafile=str(self.folder / "cert.pem")),
            timeout=60,
        )

    def stop(self) -> None:
        self._client.close()
        self._server.end()

    def set_faults(self, **faults: Any) -> None:
        """Set the faults of the cluster from now on; without arguments, there are none."""
        self._client.post("/faults", json=faults).raise_for_status()

    def objects(self, kind: str) -> list[dict[str, Any]]:
        cluster_objects = self._client.get("/all").raise_for_status().json()[kind]
        return list(cluster_objects.values())

    def asked(self) -> set[str]:
        """Return the verbs and resources that were requested."""
        return set(self._client.get("/all").raise_for_status().json()["asked"])

    def delete_pod(self, name: str) -> None:
        self._client.delete(f"/api/v1/namespaces/default/pods/{name}").raise_for_status()

    def is_empty(self) -> bool:
        cluster_objects = self._client.get("/all").raise_for_status().json()
        return not any(cluster_objects[kind] for kind in ("jobs", "pods", "secrets", "networkpolicies"))

    def wait_until(self, ready: Callable[[], object]) -> None:
        for _ in range(1200):
            if ready():
                return
            assert self._server.alive, (self.folder / "out").read_text()
            # No event announces the fate of a Pod.
            subprocess.run(["sleep", "0.1"], check=True)
        raise AssertionError(f"it did not come to that: {(self.folder / 'out').read_text()[-2000:]}")


@contextlib.contextmanager
def kubernetes_cluster(folder: Path) -> Iterator[KubernetesCluster]:
    folder.mkdir(parents=True)
    cluster = KubernetesCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
