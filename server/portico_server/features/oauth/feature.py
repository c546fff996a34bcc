"""Declares the feature `oauth`: the daemon as an authorization server for MCP clients."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature, FeatureRoute


def _route(path: str, function: str) -> FeatureRoute:
    return FeatureRoute(
        path,
        "OAuth",
        handler=f"portico_server.features.oauth.adapter:{function}",
        shape="portico_server.features.oauth.shape:OAUTH",
        needs_key=False,
    )


FEATURE: Final = Feature(
    name="oauth",
    routes=(
        _route("/.well-known/oauth-authorization-server", "describe"),
        _route("/register", "register"),
        _route("/token", "issue"),
        _route("/revoke", "revoke"),
        FeatureRoute("/authorize", "OAuth", needs_key=False),
    ),
)
