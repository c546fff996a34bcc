"""Reads files in the folders that the operator has declared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.request import ToolResult
from portico_server.features.tools.folders import Folders
from portico_server.features.tools.tool import Tool

CHARACTERS: Final = 20_000
"""Default number of characters of a file that are returned."""

_ENTRIES: Final = 1_000
_MAX_FILE_BYTES: Final = 20 * 1024 * 1024


def tool(folders: Folders) -> Tool:
    """Return ``files``, which lists a folder or returns the text of a file."""

    async def work(arguments: Mapping[str, Any], _context: Context) -> ToolResult:
        try:
            return await pools.FILES.run(_work, arguments, folders)
        except PorticoError as error:
            return ToolResult(error.message, is_error=True)
        except OSError as error:
            return ToolResult(f"'{arguments['path']}' cannot be read: {error.strerror}.", is_error=True)

    return Tool(
        name="files",
        title="Read files",
        description=(
            f"List a folder or read a text file. The folders are: {', '.join(folders.roots)}. Long files come in "
            "parts: call again with 'start' set to 'next_start'."
        ),
        input_schema={
            "type": "object",
            "properties": {
                "path": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 4096,
                    "description": "FOLDER or FOLDER/…",
                },
                "start": {"type": "integer", "minimum": 0, "default": 0, "description": "First character."},
                "max_chars": {"type": "integer", "minimum": 1, "maximum": 100_000, "default": CHARACTERS},
            },
            "required": ["path"],
            "additionalProperties": False,
        },
        work=work,
        group="files",
    )


def _work(arguments: Mapping[str, Any], folders: Folders) -> ToolResult:
    path = folders.find(arguments["path"])
    if path.is_dir():
        return _list_folder(path, folders)
    if not path.is_file():
        return ToolResult(f"'{arguments['path']}' is neither a file nor a folder.", is_error=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES or b"\0" in data[:8192]:
        return ToolResult(f"'{folders.name(path)}' is too large or is not text.", is_error=True)
    text = data.decode("utf-8-sig", "replace")
    start = int(arguments.get("start", 0))
    part = text[start : start + int(arguments.get("max_chars", CHARACTERS))]
    following = start + len(part) if start + len(part) < len(text) else None
    tail = f"\n[{len(text)} characters in total; continue with start={following}]" if following else ""
    document = {"path": folders.name(path), "text": part, "next_start": following, "total_chars": len(text)}
    return ToolResult(part + tail, document)


def _list_folder(path: Path, folders: Folders) -> ToolResult:
    entries = sorted(path.iterdir(), key=lambda entry: entry.name)
    found_entries = []
    for entry in entries[:_ENTRIES]:
        folder = entry.is_dir()
        size = 0 if folder else entry.lstat().st_size
        found_entries.append({"path": f"{folders.name(path)}/{entry.name}", "folder": folder, "bytes": size})
    lines = [
        f"{item['path']}/" if item["folder"] else f"{item['path']} ({item['bytes']} bytes)"
        for item in found_entries
    ]
    if len(entries) > _ENTRIES:
        lines.append(f"[{len(entries) - _ENTRIES} more]")
    return ToolResult("\n".join(lines) or "The folder is empty.", {"entries": found_entries})
