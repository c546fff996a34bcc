"""Builds the service of the feature `flows`."""

from __future__ import annotations

from typing import Annotated, Any

from portico_server.api.endpoint import feature_service
from portico_server.api.services import BuildServices
from portico_server.core import filter as filters
from portico_server.features.flows.flows import Flows
from portico_server.runs import redaction

TheFlows = Annotated[Flows, feature_service("flows", Flows)]
"""The service of the feature `flows`, as a parameter of an endpoint."""


def build(services: BuildServices) -> Flows:
    """Return the service of the feature."""
    settings = services.settings
    agents: Any = services.features.find("agents")  # whose modules import those of flows
    return Flows(
        services.database,
        services.registry,
        services.runner,
        services.scheduler,
        services.code.light,
        filters.parse,
        redaction.parse_rules(settings.redact, settings.redact_pattern),
        agents.budget,
        agents,
        settings.public_url.rstrip("/"),
    )
