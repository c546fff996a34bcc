"""Builds the service of the feature `canaries`."""

from __future__ import annotations

from portico_server.api.services import BuildServices
from portico_server.features.canaries.canaries import CanaryService
from portico_server.features.canaries.live_judge import LiveJudge
from portico_server.models.answers import read_reply


def build(services: BuildServices) -> CanaryService:
    """Return the service of the feature, and begin its background work."""

    async def find_judge() -> LiveJudge:
        judge: LiveJudge = (await services.features.load("evals")).live
        return judge

    keys = services.auth.keys
    canaries = CanaryService(services.database, services.registry, services.runner, find_judge, read_reply)
    canaries.keys = keys.list
    canaries.comparison.principals = keys.principal
    services.late_work.begin("canaries", canaries.run)
    return canaries
