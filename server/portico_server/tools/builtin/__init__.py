"""The tools that every daemon has: one file each, and one line in this table.

A file has a function ``tool(registry) -> Tool``; those that go out into the world take what they may reach instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from portico_server.core.registry import Registry
from portico_server.settings import Settings
from portico_server.tools.builtin import current_time, files, http_request, search, sql, web_fetch, web_search
from portico_server.tools.fetch.policy import AddressPolicy
from portico_server.tools.folders import Folders
from portico_server.tools.tool import Tool

BUILTIN: Final[tuple[Callable[[Registry], Tool], ...]] = (
    current_time.tool,
    search.list_stores_tool,
    search.tool,
)


def outward(settings: Settings) -> tuple[Tool, ...]:
    """The tools that reach what the operator's settings allow."""
    policy = AddressPolicy.of(settings.tool_hosts)
    choice = web_search.SearchSettings(settings.web_search, settings.web_search_url, settings.web_search_key)
    found = [web_fetch.tool(policy), web_search.tool(policy, choice), http_request.tool(policy)]
    folders = Folders.of(settings.tool_folders)
    if folders.roots:
        found += [files.tool(folders), sql.tool(folders), sql.schema_tool(folders)]
    return tuple(found)
