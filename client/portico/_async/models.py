"""Models and what they run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from portico._async.calls import deployments as calls_deployments
from portico._async.calls import models as calls_models
from portico._read import Page
from portico._request import Message, at, by_id, given, named
from portico.schemas.deployments import Deployment
from portico.schemas.models import StoredChat


class Chats(calls_models.Chats):
    """Chat completions that were asked for with ``store``, in ``extra_body`` of a chat."""

    async def list(
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
        return await self._transport.request("GET", "/v1/chat/completions", Page[StoredChat], query=query)

    async def messages(self, chat_id: str) -> Sequence[Message]:
        """The messages of its request, the first 100."""
        path = self._at(chat_id, "messages")
        return await self._transport.request("GET", path, list[Message], query={"limit": 100})

    def _at(self, chat_id: str, *more: str) -> str:
        return at("v1", "chat", "completions", by_id(chat_id, "a chat"), *more)


class Models(calls_models.Models):
    """Names that answer at ``/v1``, and where models come from."""

    async def decide_better(self, accept: bool) -> str | None:
        """Fetch that model, whereupon ``default`` means it: the id of the run. Or do not offer it again: ``None``."""
        body = {"accept": accept}
        found = await self._transport.request("POST", "/api/models/better", dict[str, Any], json=body)
        return None if found.get("run") is None else str(found["run"])


class Deployments(calls_deployments.Deployments):
    """Models on engines."""

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
        return await self._transport.request("POST", "/api/deployments", Deployment, json=body)

    def _at(self, name: str, *more: str) -> str:
        return at("api", "deployments", named(name, "a model"), *more)
