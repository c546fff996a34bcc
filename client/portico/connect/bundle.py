"""An MCP bundle (``.mcpb``) of the bridge ``portico mcp``, for assistants that install servers from a file.

Source: github.com/modelcontextprotocol/mcpb, MANIFEST.md, version 0.3 of the manifest.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from typing import Any, Final

from portico import __version__

MANIFEST: Final = "manifest.json"

_ENTRY: Final = "server/main.py"
_BRIDGE: Final = """\"\"\"Connects an assistant to the daemon, over standard input and output.\"\"\"

import sys

from portico.cli import main

sys.exit(main())
"""


def manifest(url: str) -> dict[str, Any]:
    """Return the manifest of a bundle for the Python environment of this process. The assistant asks for the address
    of the daemon, with ``url`` as the default, and for a key.
    """
    return {
        "manifest_version": "0.3",
        "name": "portico",
        "display_name": "Portico",
        "version": __version__,
        "description": "The tools, apps and documents of a Portico daemon",
        "author": {"name": "Portico"},
        "server": {
            "type": "python",
            "entry_point": _ENTRY,
            "mcp_config": {
                "command": sys.executable,
                "args": ["-P", f"${{__dirname}}/{_ENTRY}", "mcp"],
                "env": {
                    "PORTICO_URL": "${user_config.url}",
                    "PORTICO_API_KEY": "${user_config.api_key}",
                },
            },
        },
        "tools_generated": True,
        "prompts_generated": True,
        "compatibility": {"platforms": [sys.platform]},
        "user_config": {
            "url": {
                "type": "string",
                "title": "Address",
                "description": "The address of the daemon",
                "required": True,
                "default": url,
            },
            "api_key": {
                "type": "string",
                "title": "Key",
                "description": "A key of the daemon, if it requires one",
                "sensitive": True,
                "default": "",
            },
        },
    }


def bundle(url: str) -> bytes:
    """Return the bundle, a zip archive, with ``url`` as the default address of the daemon."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, json.dumps(manifest(url), indent=2))
        archive.writestr(_ENTRY, _BRIDGE)
    return content.getvalue()
