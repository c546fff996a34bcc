"""The names of the built-in tools, which are known before their modules are imported."""

from __future__ import annotations

from typing import Final

from portico_server.settings import Settings, comma_separated

GENERAL: Final = ("ask_model", "current_time", "list_stores", "search")
"""Tools that need only the registry."""

_OF_EVERY_DAEMON: Final = (
    *("web_fetch", "web_search", "http_request"),
    *("calculator", "code_interpreter", "shell", "apply_patch", "python_light", "run_code", "read_skill"),
    *("draw", "speak", "transcribe"),
)

_OF_FOLDERS: Final = ("files", "sql", "sql_schema")


def names_of(settings: Settings) -> tuple[str, ...]:
    """Return the names of the tools that need the services of a daemon with these settings."""
    has_folders = bool(comma_separated(settings.tool_folders))
    return (*_OF_EVERY_DAEMON, *(_OF_FOLDERS if has_folders else ()))
