"""The routes of OpenAI's client: every route of the supported resources exists, and new routes are detected."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import openai
import pytest
from tests.daemon import Daemon
from tests.server.api.openai.conftest import bearer

RESOURCES = Path(openai.__file__).parent / "resources"

NOT_SERVED = (
    # Resources of an organisation at OpenAI, and services that only OpenAI offers.
    *(
        "/organization/",
        "/projects/",
        "/agents",
        "/vaults",
        "/assistants",
        "/threads",
        "/chatkit/",
        "/videos",
    ),
    *("/live/", "/safety/", "/content_provenance_checks", "/decisions", "/audio/voice", "/realtime/sessions"),
    *("/realtime/transcription_sessions", "/realtime/translations/", "/realtime/calls"),
    *("/fine_tuning/alpha/", "/fine_tuning/checkpoints/"),
    "DELETE /models/{}",  # models belong to the operator: DELETE /api/models/{name}
)
"""Path prefixes and routes that the client has and the daemon does not."""

_PARTS = re.compile(
    r"^class (?P<name>\w+)|self\._(?P<verb>get|post|put|patch|delete|get_api_list)\(\s*"
    r"(?:path_template\(\s*)?f?\"(?P<path>/[^\"]+)\"",
    re.MULTILINE,
)
_PARAMETER = re.compile(r"\{[^}]*\}")


def routes_of_client() -> set[str]:
    """Return the routes that the blocking client requests."""
    routes = set()
    for file in RESOURCES.rglob("*.py"):
        within = ""
        for part in _PARTS.finditer(file.read_text(encoding="utf-8")):
            if part["name"]:
                within = part["name"]
            elif not within.startswith("Async") and part["path"].partition("?")[2] != "beta=true":
                posted = part["path"].endswith("/search")  # a list that is requested with a body
                verb = part["verb"] if part["verb"] != "get_api_list" else "post" if posted else "get"
                routes.add(f"{verb.upper()} {_PARAMETER.sub('{}', part['path'])}")
    return routes


@pytest.mark.slow
def test_every_client_route_of_a_supported_resource_is_served(daemon: Daemon) -> None:
    document = httpx.get(f"{daemon.url}/openapi.json", headers=bearer("boss"), timeout=60).json()
    document_routes = {
        f"{verb.upper()} {_PARAMETER.sub('{}', path.removeprefix('/v1'))}"
        for path, verbs in document["paths"].items()
        for verb in verbs
    }
    client_routes = routes_of_client()
    left_out = {
        route
        for route in client_routes
        if route in NOT_SERVED or route.partition(" ")[2].startswith(NOT_SERVED)
    }
    assert len(client_routes - left_out) > 100
    assert client_routes - left_out - document_routes == set(), (
        "serve them, or say in NOT_SERVED that they are not"
    )
    assert left_out & document_routes == set(), "they are served: NOT_SERVED is out of date"
