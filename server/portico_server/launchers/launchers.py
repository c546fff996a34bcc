"""The launchers of a daemon by name. Each launcher is created when it is first used."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from portico.schemas.cluster import ClusterJob, ClusterNode
from portico_server.core import pools
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError, Unavailable, nearest
from portico_server.launchers.local import LOCAL
from portico_server.launchers.pod_template import read_pod_template
from portico_server.launchers.protocol import DrainsNodes, Launcher, ListsNodes, check_launcher
from portico_server.settings import LAUNCHERS, Settings

if TYPE_CHECKING:
    from portico_server.launchers.remote import JobBackend, RemoteLauncher

logger = logging.getLogger(__name__)

JOBS_FOLDER: Final = "jobs"
"""Folder below the home folder with files that nodes read for their jobs."""

NODES_TIMEOUT_S: Final = 10.0
"""Maximum time, in seconds, that a caller waits until a scheduler has listed its nodes. Joining a cluster may take
longer.
"""

MAX_NODE_CHARS: Final = 100

MAX_NAMED_NODES: Final = 10
"""Maximum number of nodes that an error lists."""


class Launchers:
    """The launchers of a daemon. `close` ends the processes that they started, except processes that the next daemon
    can take over.
    """

    def __init__(self, settings: Settings) -> None:
        """Raise `InvalidRequest` if the template of Pods is invalid, so that the daemon does not start with it."""
        if settings.kubernetes_template:
            read_pod_template(Path(settings.kubernetes_template))
        self._settings = settings
        self._launchers: dict[str, RemoteLauncher] = {}
        self._lock = asyncio.Lock()
        self._finding: asyncio.Task[Sequence[str]] | None = None
        self._looks: dict[str, asyncio.Task[Sequence[ClusterNode]]] = {}

    async def get(self, name: str = "") -> Launcher:
        """Return a launcher by name, by default the launcher in the settings. Raises `InvalidRequest`."""
        check_launcher(name)
        name = name or self._settings.launcher
        if name == LOCAL.name:
            return LOCAL
        # until the processes of an earlier daemon are known, because they must not be started twice
        if self._finding is not None:
            await asyncio.wait([self._finding])
        return await self._remote(name)

    async def _remote(self, name: str) -> RemoteLauncher:
        async with self._lock:
            if name not in self._launchers:
                # Importing aiohttp takes 0.3 s, so it is imported in a thread, and only if processes run on
                # other machines.
                module = await pools.LOADING.run(importlib.import_module, "portico_server.launchers.remote")
                settings = self._settings
                self._launchers[name] = module.RemoteLauncher(
                    await self._backend(name),
                    settings.home / JOBS_FOLDER,
                    lease_s=settings.launcher_lease,
                    queue_s=settings.launcher_queue_timeout,
                )
            return self._launchers[name]

    async def _backend(self, name: str) -> JobBackend:
        module = await pools.LOADING.run(importlib.import_module, f"portico_server.launchers.{name}")
        job_backend: JobBackend = module.backend(self._settings)
        return job_backend

    def in_use(self, launcher_names: Iterable[str]) -> list[str]:
        """Return the names of the launchers that the settings use or configure, and of those in ``launcher_names``."""
        settings = self._settings
        used_names = {
            LOCAL.name,
            settings.launcher,
            settings.ingest_launcher,
            *launcher_names,
            *self._launchers,
        }
        used_names |= {name for name in LAUNCHERS if _is_set_up(settings, name)}
        return [name for name in LAUNCHERS if name in used_names]

    def jobs(self) -> Sequence[ClusterJob]:
        """Return the unfinished jobs of all launchers."""
        launchers: list[Launcher] = [LOCAL, *self._launchers.values()]
        return [job for launcher in launchers for job in launcher.jobs()]

    async def drains(self, name: str) -> bool:
        """Return whether nodes of a launcher can be drained."""
        return name != LOCAL.name and isinstance((await self._remote(name)).backend, DrainsNodes)

    async def nodes(self, name: str) -> Sequence[ClusterNode]:
        """Return the nodes of a scheduler. Concurrent callers share one request. Raises `PorticoError`."""
        look = self._looks.get(name)
        if look is None:
            look = self._looks[name] = asyncio.create_task(self._look(name), name=f"nodes of {name}")
            look.add_done_callback(self._looked(name))
        tasks, _ = await asyncio.wait([look], timeout=NODES_TIMEOUT_S)
        if not tasks:
            raise Unavailable(
                f"The launcher '{name}' did not list its nodes within {NODES_TIMEOUT_S:g} s. The request is "
                "still running: try again in a moment.",
                code="launcher_silent",
            )
        return look.result()

    def _looked(self, name: str) -> Callable[[asyncio.Task[Any]], None]:
        def forget(look: asyncio.Task[Any]) -> None:
            del self._looks[name]
            if not look.cancelled():
                # marks the error as retrieved: waiting callers receive it, but all of them
                # may have given up
                look.exception()

        return forget

    async def _look(self, name: str) -> Sequence[ClusterNode]:
        backend = (await self._remote(name)).backend
        if not isinstance(backend, ListsNodes):
            raise Unavailable(f"The launcher '{name}' does not report its nodes.", code="nodes_unknown")
        return await backend.nodes()

    async def node(self, name: str, node: str) -> ClusterNode:
        """Return a node by its name or address. Raises `PorticoError`."""
        cluster_nodes = await self.nodes(name)
        by_name = [cluster_node for cluster_node in cluster_nodes if cluster_node.name == node]
        by_address = [cluster_node for cluster_node in cluster_nodes if cluster_node.address == node]
        present = [
            cluster_node for cluster_node in by_address if cluster_node.state not in ("down", "drained")
        ]
        if len(matching := by_name or present or by_address) == 1:
            return matching[0]
        names = [cluster_node.name for cluster_node in cluster_nodes]
        known_text = f"It has {', '.join(names[:MAX_NAMED_NODES])}." if names else "It has no nodes."
        raise NotFound(
            f"The launcher '{name}' has no node '{node[:MAX_NODE_CHARS]}'. {known_text}{nearest(node, names)}",
            code="node_not_found",
            param="node",
        )

    async def draining(self, name: str) -> DrainsNodes:
        """Return the backend of a launcher for draining nodes. Raise `InvalidRequest` if the backend cannot drain
        nodes.
        """
        check_launcher(name)
        if name == LOCAL.name:
            raise InvalidRequest(
                "The launcher 'local' runs processes on the daemon's own machine, which has no scheduler to "
                "drain it. Unload its models ('portico models unload'), or stop the daemon ('portico down').",
                code="drain_unsupported",
                param="launcher",
            )
        backend = (await self._remote(name)).backend
        if not isinstance(backend, DrainsNodes):
            raise InvalidRequest(
                f"Portico cannot drain nodes of the launcher '{name}': use the scheduler's own commands.",
                code="drain_unsupported",
                param="launcher",
            )
        return backend

    def start(self) -> None:
        """Start looking for processes that an earlier daemon left on other machines. No new process starts there until
        they are known.
        """
        self._finding = asyncio.create_task(self._find(), name="what runs elsewhere")

    async def leftovers(self) -> Sequence[str]:
        """Return the names of the processes that an earlier daemon left. Starting the same process again takes such a
        process over. Raises `PorticoError`.
        """
        return await self._finding if self._finding is not None else ()

    async def _find(self) -> Sequence[str]:
        folder = self._settings.home / JOBS_FOLDER
        names: list[str] = []
        if await pools.MODELS.run(_is_nonempty, folder):
            for name in LAUNCHERS:
                if name != LOCAL.name:
                    names += await (await self._remote(name)).adopt()
        return names

    async def end_leftovers(self) -> None:
        """End the processes of an earlier daemon that were not taken over."""
        for launcher in self._launchers.values():
            await launcher.end_leftovers()

    async def close(self) -> None:
        if tasks := [task for task in (self._finding, *self._looks.values()) if task is not None]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for launcher in self._launchers.values():
            try:
                await launcher.close()
            except PorticoError as error:
                logger.warning("%s", error.message)


def _is_set_up(settings: Settings, name: str) -> bool:
    """Return whether a setting of this launcher has a value."""
    return any(
        getattr(settings, item.name) != item.default
        for item in fields(Settings)
        if item.name.startswith(f"{name}_")
    )


def _is_nonempty(folder: Path) -> bool:
    return any(folder.glob("*"))
