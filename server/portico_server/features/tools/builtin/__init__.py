"""The built-in tools of every daemon: one file for each tool, and one line in a table of this package.

A file contains a function ``tool(registry) -> Tool``. Tools that use the network receive the address policy instead;
tools that run code receive the sandbox.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from portico_server.core.fetching import Fetcher
from portico_server.core.registry import Registry
from portico_server.db.database import Database
from portico_server.features.sandbox.containers import ContainerService
from portico_server.features.sandbox.environment import Environment
from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.sandbox.local import LocalSandbox
from portico_server.features.sandbox.notebooks import Notebooks
from portico_server.features.sandbox.protocol import MB, SandboxLimits
from portico_server.features.skills.library import SkillLibrary
from portico_server.features.tools.builtin import (
    ask_model,
    calculator,
    code_interpreter,
    current_time,
    draw,
    files,
    http_request,
    list_stores,
    python_light,
    read_skill,
    run_code,
    search,
    shell,
    speak,
    sql,
    transcribe,
    web_fetch,
    web_search,
)
from portico_server.features.tools.builtin.draw import PictureFiles
from portico_server.features.tools.folders import Folders
from portico_server.features.tools.tool import Tool
from portico_server.http.fetch.policy import AddressPolicy
from portico_server.runs.artifacts import ArtifactStore
from portico_server.runs.quotas import StorageQuota
from portico_server.settings import Settings

BUILTIN: Final[tuple[Callable[[Registry], Tool], ...]] = (
    ask_model.tool,
    current_time.tool,
    list_stores.list_stores_tool,
    search.tool,
)


def outward(settings: Settings) -> tuple[Tool, ...]:
    """Return the tools that access the hosts and folders that the operator's settings allow."""
    policy = AddressPolicy.of(settings.tool_hosts)
    choice = web_search.SearchSettings(settings.web_search, settings.web_search_url, settings.web_search_key)
    tools = [web_fetch.tool(policy), web_search.tool(policy, choice), http_request.tool(policy)]
    folders = Folders.of(settings.tool_folders)
    if folders.roots:
        tools += [files.tool(folders), sql.tool(folders), sql.schema_tool(folders)]
    return tuple(tools)


class CodeTools:
    """``python_light``, ``calculator``, ``run_code``, ``code_interpreter``, shells, containers.

    No process is started before the first call.
    """

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        database: Database,
        artifacts: ArtifactStore,
        skills: SkillLibrary,
        quota: StorageQuota,
    ) -> None:
        limits = SandboxLimits(seconds=settings.notebook_timeout, memory=settings.notebook_memory_mb * MB)
        environment = Environment(settings.environments, index=settings.pypi_index, offline=settings.offline)
        self.light = LightSandbox()
        self._tool_code = LightSandbox(run_code.MAX_AT_ONCE)
        self._notebooks = Notebooks(
            LocalSandbox(environment),
            limits,
            limit=settings.notebooks,
            idle=settings.notebook_idle,
        )
        self.containers = ContainerService(
            database, self._notebooks, artifacts, skills, quota, settings.notebook_memory_mb
        )
        self.tools: tuple[Tool, ...] = (
            calculator.tool(self.light),
            code_interpreter.tool(self.containers, artifacts, skills, limits),
            shell.tool(self.containers, artifacts, skills, limits),
            shell.patch_tool(self.containers),
            python_light.tool(self.light),
            run_code.tool(registry, self._tool_code),
            read_skill.tool(skills),
        )

    async def close(self) -> None:
        """Stop all interpreters and kernels."""
        await self.light.close()
        await self._tool_code.close()
        await self._notebooks.close()


def media_tools(
    registry: Registry, artifacts: ArtifactStore, files: PictureFiles, fetcher: Fetcher
) -> tuple[Tool, ...]:
    """Return the media tools. Their results are stored in ``artifacts``; ``files`` reads uploads of clients and files
    of runs.
    """
    return (
        draw.tool(registry, artifacts, files, fetcher),
        speak.tool(registry, artifacts),
        transcribe.tool(registry, files),
    )
