"""Builds the services of the features `agents` and `public_links`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from portico_server.api.endpoint import feature_service
from portico_server.api.services import BuildServices
from portico_server.features.agents.app import AgentApps
from portico_server.features.agents.public_links import PublicLinks
from portico_server.features.agents.sessions import AgentSessions
from portico_server.features.flows.budget import ValueBudget
from portico_server.features.stores.facts import StoredFacts
from portico_server.features.stores.stores import may_read

TheAgents = Annotated[AgentApps, feature_service("agents", AgentApps)]
"""The service of the feature `agents`, as a parameter of an endpoint."""

ThePublicLinks = Annotated[PublicLinks, feature_service("public_links", PublicLinks)]
"""The service of the feature `public_links`, as a parameter of an endpoint."""


def build(services: BuildServices) -> AgentApps:
    """Return the service of the feature `agents`."""
    return AgentApps(
        services.registry,
        services.runner,
        services.code.light,
        AgentSessions(services.database, services.registry, services.storage),
        StoredFacts(services.database, services.stores, services.files),
        services.tool_search,
        services.skills,
        ValueBudget(services.settings.flow_value_mb, services.settings.flow_run_mb),
    )


def build_public_links(services: BuildServices) -> PublicLinks:
    """Return the service of the feature `public_links`."""
    agents = services.features.get("agents", AgentApps)
    return PublicLinks(
        services.database, agents.sessions, services.storage, partial(may_read, services.stores)
    )
