"""The MCP servers of a configuration, under the key ``mcp``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.configuration_document import ConfigurationDocument
from portico_server.features.mcp_servers.spec import ServerSpec, parse


def read(document: ConfigurationDocument) -> tuple[ServerSpec, ...]:
    """Return the MCP servers of a configuration. Raise `InvalidRequest`."""
    return document.read_each("mcp", lambda item, at: _server(item, at, document))


def _server(item: Mapping[str, Any], at: str, document: ConfigurationDocument) -> ServerSpec:
    """Parse an MCP server; its program runs in ``folder``, which defaults to the folder of the file."""
    server_fields = dict(item)
    if server_fields.get("command"):
        server_fields["folder"] = str(document.path(str(server_fields.get("folder") or ".")))
    return parse(server_fields, at)
