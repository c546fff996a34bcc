"""A daemon without a key refuses what real reverse proxies on its machine forward, as a newcomer configures them and as
the documentation does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
from tests import daemon as daemons
from tests import proxies
from tests.daemon import Daemon
from tests.raw_http import Form, ask

OUTSIDER = Form(host="portico.example.com")

CALLS = (
    *(
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/messages"),
        ("GET", "/api/tags"),
    ),
    *(("GET", "/api/keys"), ("POST", "/api/keys"), ("POST", "/api/tools/shell/call"), ("GET", "/metrics")),
    *(("POST", "/mcp"), ("POST", "/a2a/docs"), ("GET", "/"), ("GET", "/docs"), ("WEBSOCKET", "/v1/realtime")),
)


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemons.running(tmp_path_factory.mktemp("home"), env={"PORTICO_OFFLINE": "1"}) as daemon:
        yield daemon


@pytest.mark.parametrize("form", ["root", "path", "host"])
@pytest.mark.parametrize("name", proxies.PROXIES)
def test_an_outsider_gets_nothing_through_a_proxy(
    keyless: Daemon, tmp_path: Path, name: str, form: Literal["root", "path", "host"]
) -> None:
    with proxies.naive(name, tmp_path, keyless.url, form) as url:
        assert ask(keyless.url, "GET", "/api/keys")[0] == 200
        for method, place in CALLS:
            status, body = ask(url, method, urlsplit(url).path + place, OUTSIDER)
            assert (status, "trust_local_proxy" in body) == (401, True), (method, place, status, body)
