"""web_fetch, web_search and http_request against a website on this machine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from jsonschema import Draft202012Validator
from tests.registry_fixture import RegistryFixture, open_registry
from tests.server.features.tools.web import Site, page, serving

from portico_server.core.errors import InvalidRequest
from portico_server.core.request import ToolCall, ToolResult
from portico_server.features.tools.builtin import outward
from portico_server.features.tools.builtin.web_search import PROVIDERS
from portico_server.features.tools.toolbox import Toolbox
from portico_server.settings import Settings

SEARX = {
    "results": [{"title": "Ports", "url": "https://a.example/", "content": "7419  is\nit"}, {"title": "x"}]
}
BRAVE = {"web": {"results": [{"title": "P", "url": "https://b.example/", "description": "d"}]}}
BING = {"webPages": {"value": [{"name": "P", "url": "https://c.example/", "snippet": "s"}]}}
DUCK = """<div class="result results_links"><div class="links_main result__body"><h2>
<a class="result__a" href="//duckduckgo.com/l/?uddg=https%3A%2F%2Fd.example%2F&amp;rut=1">A <b>duck</b></a></h2>
<a class="result__snippet" href="x">About ducks</a></div></div>"""


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async def echo(request: web.Request) -> web.StreamResponse:
        request_echo = {
            "method": request.method,
            "body": await request.text(),
            "key": request.headers.get("X-Key"),
            "type": request.content_type,
        }
        return web.json_response(request_echo, status=201)

    pages = {
        "/": page("<title>Home</title><h1>Hello</h1><p>" + "word " * 10_000 + "</p>"),
        "/data": page('{"port": 7419}', "application/json"),
        "/pdf": page("%PDF", "application/pdf"),
        "/gone": page("<p>nothing</p>", status=404),
        "/echo": echo,
        "/searx": page(json.dumps(SEARX), "application/json"),
        "/brave": page(json.dumps(BRAVE), "application/json"),
        "/tavily": page(json.dumps(SEARX), "application/json"),
        "/bing": page(json.dumps(BING), "application/json"),
        "/duck": page(DUCK),
        "/broken": page("[1"),
        "/refused": page("no", status=401),
    }
    async with serving(pages) as running:
        yield running


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RegistryFixture]:
    async with open_registry(tmp_path) as registry_daemon:
        yield registry_daemon


def equip(daemon: RegistryFixture, **settings: str) -> None:
    toolbox = Toolbox(daemon.registry)
    for tool in outward(Settings(**settings)):
        toolbox.add(tool)


async def use(daemon: RegistryFixture, name: str, **arguments: Any) -> ToolResult:
    result, _events = await daemon.call(f"tool/{name}", ToolCall(arguments))
    assert isinstance(result, ToolResult)
    return result


def test_every_web_tool_has_valid_schemas() -> None:
    for tool in outward(Settings()):
        Draft202012Validator.check_schema(dict(tool.input_schema))
        Draft202012Validator.check_schema(dict(tool.output_schema or {}))
        assert tool.open_world and tool.description.endswith(".")


async def test_a_long_page_is_read_in_parts(daemon: RegistryFixture, site: Site) -> None:
    equip(daemon, tool_hosts=site.host)
    first = await use(daemon, "web_fetch", url=f"{site.url}/")
    assert first.structured is not None and first.structured["title"] == "Home"
    assert first.text.startswith(f"Home\n{site.url}/\n\n# Hello")
    text, following = first.structured["text"], first.structured["next_start"]
    while following is not None:
        part = await use(daemon, "web_fetch", url=f"{site.url}/", start=following)
        assert part.structured is not None
        text, following = text + part.structured["text"], part.structured["next_start"]
    assert text == "# Hello\n\n" + "word " * 9_999 + "word"
    assert len(text) == first.structured["total_chars"]


async def test_web_fetch_returns_json_and_refuses_pdf_and_error_pages(
    daemon: RegistryFixture, site: Site
) -> None:
    equip(daemon, tool_hosts=site.host)
    assert '{"port": 7419}' in (await use(daemon, "web_fetch", url=f"{site.url}/data")).text
    for path, message in [("/pdf", "application/pdf"), ("/gone", "status 404")]:
        result = await use(daemon, "web_fetch", url=site.url + path)
        assert result.is_error and message in result.text


async def test_private_addresses_are_not_fetched_without_permission(
    daemon: RegistryFixture, site: Site
) -> None:
    equip(daemon)
    for name in ("web_fetch", "http_request"):
        result = await use(daemon, name, url=f"{site.url}/")
        assert result.is_error and "private" in result.text
    assert site.requests == []


async def test_http_request_sends_method_headers_and_body_and_refuses_the_host_header(
    daemon: RegistryFixture, site: Site
) -> None:
    equip(daemon, tool_hosts=site.host)
    result = await use(
        daemon, "http_request", url=f"{site.url}/echo", method="PUT", headers={"X-Key": "k"}, json={"a": 1}
    )
    assert result.structured is not None and result.structured["status"] == 201
    echo = json.loads(result.structured["text"])
    assert echo == {"method": "PUT", "body": '{"a": 1}', "key": "k", "type": "application/json"}
    refusal = await use(daemon, "http_request", url=f"{site.url}/echo", headers={"Host": "evil"})
    assert refusal.is_error and "Host" in refusal.text
    with pytest.raises(InvalidRequest, match="does not match"):
        await use(daemon, "http_request", url=f"{site.url}/echo", headers={"X": "a\r\nHost: evil"})


@pytest.mark.parametrize(
    ("provider", "path", "expected"),
    [
        ("searxng", "/searx", {"title": "Ports", "url": "https://a.example/", "text": "7419 is it"}),
        ("tavily", "/tavily", {"title": "Ports", "url": "https://a.example/", "text": "7419 is it"}),
        ("brave", "/brave", {"title": "P", "url": "https://b.example/", "text": "d"}),
        ("bing", "/bing", {"title": "P", "url": "https://c.example/", "text": "s"}),
        ("duckduckgo", "/duck", {"title": "A duck", "url": "https://d.example/", "text": "About ducks"}),
    ],
)
async def test_every_search_provider_is_queried_and_its_results_are_parsed(
    daemon: RegistryFixture, site: Site, provider: str, path: str, expected: dict[str, str]
) -> None:
    equip(
        daemon,
        tool_hosts=site.host,
        web_search=provider,
        web_search_url=site.url + path,
        web_search_key="sekret",
    )
    result = await use(daemon, "web_search", query="which port", max_results=3)
    assert result.structured == {"results": [expected]}
    request = site.requests[-1]
    query = json.loads(await request.text()) if request.method == "POST" else dict(request.query)
    assert "which port" in query.values()
    keyed = "sekret" in str(request.headers)
    assert keyed == bool(PROVIDERS[provider].header)


async def test_a_search_that_is_not_set_up_says_what_to_set(daemon: RegistryFixture, site: Site) -> None:
    equip(daemon)
    result = await use(daemon, "web_search", query="x")
    assert result.is_error and "web_search" in result.text and "searxng" in result.text


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"web_search": "searxng"}, "web_search_url"),
        ({"web_search": "brave"}, "web_search_key"),
        ({"web_search": "searxng", "web_search_url": "/broken"}, "respond in JSON"),
        ({"web_search": "searxng", "web_search_url": "/refused"}, "status 401"),
    ],
)
async def test_a_search_that_fails_says_why(
    daemon: RegistryFixture, site: Site, settings: dict[str, str], told: str
) -> None:
    if settings.get("web_search_url", "").startswith("/"):
        settings = {**settings, "web_search_url": site.url + settings["web_search_url"]}
    equip(daemon, tool_hosts=site.host, **settings)
    result = await use(daemon, "web_search", query="x")
    assert result.is_error and told in result.text
