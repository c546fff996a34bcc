"""The tools of a configuration, under the key ``tools``."""

from __future__ import annotations

from portico_server.core.configuration_document import ConfigurationDocument
from portico_server.features.tools.sources.spec import ToolSpec, parse


def read(document: ConfigurationDocument) -> tuple[ToolSpec, ...]:
    """Return the tools of a configuration. The ``folder`` of a tool defaults to the folder of the file. Raise
    `InvalidRequest`.
    """
    return document.read_each(
        "tools",
        lambda item, at: parse({**item, "folder": str(document.path(str(item.get("folder") or ".")))}, at),
    )
