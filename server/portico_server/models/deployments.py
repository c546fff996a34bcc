"""The models of this daemon by name and alias, and all their processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from portico_server.core.errors import NotFound, nearest
from portico_server.core.registry import Registry
from portico_server.models.deployment import Deployment
from portico_server.models.fallback import WithFallback, fallbacks
from portico_server.models.process import ModelProcess


class Deployments(Mapping[str, Deployment]):
    """Deployments by their own names. A deployment that was entered can be called through the registry, also by its
    aliases.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._by_name: dict[str, Deployment] = {}

    def __getitem__(self, name: str) -> Deployment:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, name: str) -> Deployment | None:
        """Return a deployment by name or alias, or ``None`` if none has this name."""
        return self._by_name.get(name) or self._by_name.get(self._registry.aliases.get(name, ""))

    def require(self, name: str) -> Deployment:
        """Return a deployment by name or alias. Raises `NotFound`."""
        deployment = self.find(name)
        if deployment is None:
            known_names = [
                deployment_name
                for deployment_name, other_deployment in self._by_name.items()
                if other_deployment.owner is None
            ]
            known_names += [alias for alias in self._registry.aliases if ":" not in alias]
            raise NotFound(
                f"Deployment '{name}' not found.{nearest(name, known_names)}",
                code="model_not_found",
                param="name",
            )
        return deployment

    def enter(self, deployment: Deployment) -> None:
        """Register a deployment under its name and aliases."""
        spec = deployment.spec
        fallback_names = fallbacks(spec)
        self._registry.add(
            WithFallback(deployment, fallback_names, self._registry) if fallback_names else deployment
        )
        self._by_name[spec.name] = deployment
        for alias in spec.aliases:
            self._registry.aliases.set(alias, spec.name)

    def withdraw(self, deployment: Deployment) -> None:
        """Unregister a deployment. Its processes continue to run."""
        self._registry.remove(deployment.spec.name, deployment.owner)
        self._by_name.pop(deployment.spec.name, None)

    def processes(self) -> list[ModelProcess]:
        """Return the replicas of all deployments, whether they run or not."""
        return [process for deployment in self._by_name.values() for process in deployment.pool.processes]

    def answering(self) -> bool:
        """Return whether a process on this machine's CPU is answering calls."""
        return any(
            process.busy and not process.gpus and process.pid is not None for process in self.processes()
        )
