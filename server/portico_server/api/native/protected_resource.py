"""``/.well-known/oauth-protected-resource``: how clients of MCP get in. Needs no key."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from portico_server.api import protected
from portico_server.api.depends import TheParts
from portico_server.api.router import router as new_router

router = new_router(tags=["MCP"])


@router.get(protected.WELL_KNOWN)
async def get_protected_resource(parts: TheParts, request: Request) -> dict[str, Any]:
    """The metadata of the daemon as a whole (RFC 9728)."""
    return _document(parts, request, "")


@router.get(protected.WELL_KNOWN + "/{path:path}")
async def get_protected_endpoint(path: str, parts: TheParts, request: Request) -> dict[str, Any]:
    """The metadata of one MCP endpoint (RFC 9728)."""
    return _document(parts, request, f"/{path}")


def _document(parts: TheParts, request: Request, path: str) -> dict[str, Any]:
    base = protected.address(parts.settings, request.url.scheme, request.headers.get("host"))
    return dict(protected.metadata(parts.settings, base, path))
