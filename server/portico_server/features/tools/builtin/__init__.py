"""The built-in tools of every daemon: one file for each tool, one line in a table of this package, and its name in
`portico_server.features.tools.built_in_names`. The first lookup of a tool imports this package.

A file contains a function ``tool(registry) -> Tool``. Tools that use the network receive the address policy instead;
tools that run code receive the sandbox.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from portico_server.core.fetching import Fetcher
from portico_server.core.registry import Registry
from portico_server.features.sandbox.code_tools import CodeTools
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


def code_tools(
    registry: Registry, code: CodeTools, artifacts: ArtifactStore, skills: SkillLibrary
) -> tuple[Tool, ...]:
    """Return the tools that run code, and the tool that reads skills."""
    return (
        calculator.tool(code.light),
        code_interpreter.tool(code.containers, artifacts, skills, code.limits),
        shell.tool(code.containers, artifacts, skills, code.limits),
        shell.patch_tool(code.containers),
        python_light.tool(code.light),
        run_code.tool(registry, code.add_light(run_code.MAX_AT_ONCE)),
        read_skill.tool(skills),
    )


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
