"""``/api/guards``: the configured guards."""

from __future__ import annotations

from portico.schemas.daemon import ConfiguredGuard
from portico_server.api.endpoint import Admin, TheServices, new_router
from portico_server.api.shapes import Listed
from portico_server.features.guards.guard import PLACES

router = new_router(prefix="/api", tags=["Daemon"])


@router.get("/guards")
async def list_guards(services: TheServices, _caller: Admin) -> Listed[ConfiguredGuard]:
    """List the configured guards in the order in which they run."""
    return Listed(
        data=[
            ConfiguredGuard(
                name=guard.name,
                on=tuple(sorted(guard.on)),
                detects=tuple(dict.fromkeys(detector.kind for detector in guard.detectors)),
                where=tuple(place for place in PLACES if place in guard.where),
                action=guard.action,
                on_error=guard.on_error,
            )
            for guard in services.guards
        ]
    )
