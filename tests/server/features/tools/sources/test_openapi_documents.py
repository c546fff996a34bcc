"""A hostile API document cannot block the daemon, choose the daemon's host, or get the operator's headers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.server.features.tools.sources.test_sources import Case, opened
from tests.server.features.tools.web import Site, serving

from portico_server.core.errors import InvalidRequest
from portico_server.core.json_schema import MAX_SCHEMA_DEPTH

HEADERS = {"Authorization": "Bearer s3cret"}


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    async with opened(tmp_path) as case:
        yield case


def document(paths: Any, **more: Any) -> str:
    return json.dumps(
        {"openapi": "3.1.0", "servers": [{"url": "http://127.0.0.1:9"}], "paths": paths, **more}
    )


def taking(schema: Any) -> dict[str, Any]:
    """Return a path with one operation whose body has this schema."""
    return {"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}}


async def add(case: Case, folder: Path, text: str, **more: Any) -> list[str]:
    (folder / "api.json").write_text(text, encoding="utf-8")
    return await case.add("zoo", openapi="api.json", folder=str(folder), **more)


def nested(levels: int) -> Any:
    return json.loads('{"default":' * levels + "1" + "}" * levels)


@pytest.mark.parametrize(
    "text",
    [
        document({"/a": {"parameters": 5, "get": {}}}),
        document({"/a": {"get": {"parameters": [{"name": "a", "in": "query", "schema": [1]}]}}}),
        document({"/a": {"get": {"requestBody": {"content": [1]}}}}),
        document({"/a": {"get": {"requestBody": {"content": {"application/json": "x"}}}}}),
        *(
            document({"/a": {"get": {}}}, servers=servers)
            for servers in ("x", ["x"], {"url": "x"}, [{"url": "http://[x/"}], [{"url": "http://a:99999/"}])
        ),
        document({"/a": {"get": {}}}, components=[1]),
        document({"/a": taking({"$ref": "#/components/schemas/x"})}, components={"schemas": ["x"]}),
        document({"/a": taking("")}).replace('""', '{"not":' * 900 + "{}" + "}" * 900),
        document({".example.com/a": {"get": {}}, "@example.com/a": {"get": {}}, ":81/a": {"get": {}}}),
    ],
)
async def test_a_malformed_openapi_document_is_refused(case: Case, tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await add(case, tmp_path, text)
    assert caught.value.code == "invalid_openapi"


async def test_circular_references_are_included_once_in_the_schema(case: Case, tmp_path: Path) -> None:
    ring = {
        "A": {"$ref": "#/components/schemas/B"},
        "B": {"properties": {"a": {"$ref": "#/components/schemas/A"}}},
    }
    text = document({"/a": taking({"$ref": "#/components/schemas/A"})}, components={"schemas": ring})
    await add(case, tmp_path, text)
    assert sorted((await case.card("zoo_post_a")).input_schema["$defs"]) == ["A", "B"]


async def test_an_operation_whose_schema_is_too_large_is_skipped(case: Case, tmp_path: Path) -> None:
    deep, wide = nested(MAX_SCHEMA_DEPTH), {"enum": [f"v{number}" for number in range(10_001)]}
    text = document({"/deep": taking(deep), "/wide": taking(wide), "/plain": taking({"type": "object"})})
    assert await add(case, tmp_path, text) == ["zoo_post_plain"]


async def test_schemas_that_many_operations_share_count_for_each(case: Case, tmp_path: Path) -> None:
    paths = {f"/{number}": taking({"$ref": "#/components/schemas/E"}) for number in range(200)}
    text = document(paths, components={"schemas": {"E": {"enum": ["x" * 9] * 9_000}}})
    with pytest.raises(InvalidRequest, match="'allow'"):
        await add(case, tmp_path, text)
    assert await add(case, tmp_path, text, allow=["post_1"]) == ["zoo_post_1"]


async def test_a_document_cannot_choose_a_private_host_or_receive_the_operators_headers(case: Case) -> None:
    async def secret(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"secret": 1})

    async with serving({"/{rest:.*}": secret}) as inner:

        async def description(_request: web.Request) -> web.StreamResponse:
            return web.Response(
                text=document({"/a": {"get": {"operationId": "a"}}}, servers=[{"url": inner.url}])
            )

        async def moved(_request: web.Request) -> web.StreamResponse:
            raise web.HTTPFound(f"{inner.url}/api.json")

        async with serving({"/api.json": description, "/moved": moved}) as outer:
            await _refused_elsewhere(case, outer, inner)


async def _refused_elsewhere(case: Case, outer: Site, inner: Site) -> None:
    openapi = f"{outer.url}/api.json"
    with pytest.raises(InvalidRequest, match="'url'"):
        await case.add("zoo", openapi=openapi, headers=HEADERS)
    with pytest.raises(InvalidRequest, match="private"):
        await case.add("zoo", openapi=f"{outer.url}/moved", headers=HEADERS)
    await case.add("zoo", openapi=openapi)
    result = await case.use("zoo_a")
    assert result.is_error and "private" in result.text and not inner.requests
    await case.add("own", openapi=openapi, url=inner.url, headers=HEADERS)
    assert not (await case.use("own_a")).is_error
    assert inner.requests[-1].headers["Authorization"] == HEADERS["Authorization"]
