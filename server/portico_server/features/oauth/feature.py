"""Declares the feature `oauth`: the daemon as an authorization server for MCP clients."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature, FeatureRoute

_FUNCTIONS: Final = {
    "/.well-known/oauth-authorization-server": "describe",
    "/register": "register",
    "/token": "issue",
    "/revoke": "revoke",
}

FEATURE: Final = Feature(
    name="oauth",
    routes=(
        *(
            FeatureRoute(
                path,
                "OAuth",
                handler=f"portico_server.features.oauth.adapter:{function}",
                shape="portico_server.features.oauth.shape:OAUTH",
                needs_key=False,
            )
            for path, function in _FUNCTIONS.items()
        ),
        FeatureRoute("/authorize", "OAuth", needs_key=False),
    ),
    routers=("portico_server.features.oauth.consent:router",),
    paths=("/authorize", "/api/authorization"),
)
