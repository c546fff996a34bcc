"""The apps of a configuration, under the keys ``apps`` and ``agents``."""

from __future__ import annotations

from portico_server.core.configuration_document import ConfigurationDocument
from portico_server.core.errors import InvalidRequest
from portico_server.features.apps.entry import AppEntry, agent_of, app_of


def read(document: ConfigurationDocument) -> tuple[AppEntry, ...]:
    """Return the apps and agents of a configuration. Raise `InvalidRequest`."""
    app_entries = (
        *document.read_each("apps", lambda item, at: app_of(item, at, document.folder)),
        *document.read_each("agents", lambda item, at: agent_of(item, at, document.folder)),
    )
    names: set[str] = set()
    for entry in app_entries:
        if entry.name in names:
            raise InvalidRequest(f"Both 'apps' and 'agents' have '{entry.name}'.", param="agents")
        names.add(entry.name)
    return app_entries
