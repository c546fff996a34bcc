"""``/.well-known/oauth-protected-resource``: metadata from which MCP clients learn how to authenticate. It requires no
key.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from portico_server.api.auth import protected_resource
from portico_server.api.endpoint import TheServices, new_router

router = new_router(tags=["MCP"])


@router.get(protected_resource.WELL_KNOWN)
async def get_protected_resource(services: TheServices, request: Request) -> dict[str, Any]:
    """Return the metadata of the whole daemon (RFC 9728)."""
    return _resource(services, request, "")


@router.get(protected_resource.WELL_KNOWN + "/{path:path}")
async def get_protected_endpoint(path: str, services: TheServices, request: Request) -> dict[str, Any]:
    """Return the metadata of one MCP endpoint (RFC 9728)."""
    return _resource(services, request, f"/{path}")


def _resource(services: TheServices, request: Request, path: str) -> dict[str, Any]:
    base = request.scope["portico.exchange"].base_url(services.settings)
    return dict(protected_resource.metadata(services.settings, base, path, needs_key=services.auth.needs_key))
