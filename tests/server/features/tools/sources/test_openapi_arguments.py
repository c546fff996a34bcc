"""What callers of an API operation cannot control: another operation, the operator's credentials, the framing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.server.features.tools.sources.test_sources import Case, opened
from tests.server.features.tools.web import Site, serving

from portico_server.core.errors import InvalidRequest, PorticoError

SECRET = "s3cret"


def document(*parameters: dict[str, Any], path: str = "/pets/{id}") -> str:
    """Return an API with one operation, whose credentials go into a header, a query parameter or a cookie."""
    return json.dumps(
        {
            "openapi": "3.1.0",
            "paths": {
                path: {"get": {"operationId": "get", "parameters": list(parameters)}},
                "/admin": {"get": {"operationId": "admin"}},
            },
            "components": {
                "securitySchemes": {
                    "query": {"type": "apiKey", "in": "query", "name": "token"},
                    "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                }
            },
        }
    )


def parameter(name: str, place: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}


ID = parameter("id", "path")


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    async with opened(tmp_path) as case:
        yield case


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async def echo(request: web.Request) -> web.StreamResponse:
        request_echo = {
            "path": request.raw_path,
            "headers": dict(request.headers),
            "query": dict(request.query),
        }
        return web.json_response(request_echo)

    async with serving({"/{rest:.*}": echo}) as running:
        yield running


async def add(
    case: Case, site: Site, folder: Path, *parameters: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """Add the API; return the arguments of its operation."""
    path = more.pop("path", "/pets/{id}")
    (folder / "api.json").write_text(document(*parameters, path=path), encoding="utf-8")
    options = {"url": f"{site.url}/v1", "headers": {"Authorization": f"Bearer {SECRET}"}, **more}
    await case.add("zoo", openapi="api.json", folder=str(folder), allow=["get"], **options)
    properties: dict[str, Any] = (await case.card("zoo_get")).input_schema["properties"]
    return properties


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", ".", "..", "../admin", "a/../../admin", "a/b", "a\\b", "..\\admin"),
        *("%2e%2e", "%2e", "%2E%2e", "%252e%252e", "..%2fadmin", "a%2Fb", "a%252Fb", "a%5cb", "%25252f"),
        *("..;", "..;x=1", ".;", " .. ", "a\r\nb", "a\0b", "a%00b", "a%0d%0ab", "%2525252525252f"),
    ],
)
async def test_a_path_argument_that_would_leave_its_segment_is_refused(
    case: Case, site: Site, tmp_path: Path, value: str
) -> None:
    await add(case, site, tmp_path, ID)
    result = await case.use("zoo_get", id=value)
    assert result.is_error and "part of the address" in result.text
    assert not site.requests


@pytest.mark.parametrize(
    "value", ["a", "a b", "a?b", "a#b", "a&b=c", "100%", "a:b@c", "...", "雪莲花", "{id}", "a;b"]
)
async def test_other_path_arguments_arrive_unchanged(
    case: Case, site: Site, tmp_path: Path, value: str
) -> None:
    await add(case, site, tmp_path, ID)
    result = await case.use("zoo_get", id=value)
    assert not result.is_error
    assert site.requests[-1].match_info["rest"] == f"v1/pets/{value}"


async def test_path_arguments_that_together_form_another_segment_are_refused(
    case: Case, site: Site, tmp_path: Path
) -> None:
    await add(case, site, tmp_path, parameter("a", "path"), parameter("b", "path"), path="/pets/{a}{b}/x")
    assert (await case.use("zoo_get", a=".", b=".")).is_error
    assert (await case.use("zoo_get", a="%2", b="e.")).is_error
    assert not (await case.use("zoo_get", a="x", b=".")).is_error


async def test_one_argument_is_not_put_into_another(case: Case, site: Site, tmp_path: Path) -> None:
    await add(case, site, tmp_path, parameter("a", "path"), parameter("b", "path"), path="/pets/{a}/{b}")
    await case.use("zoo_get", a="{b}", b="x")
    assert site.requests[-1].match_info["rest"] == "v1/pets/{b}/x"


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "host", "Cookie", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "TE"),
        *("Trailer", "Proxy-Authorization", "Transfer_Encoding", "X-Forwarded-For", "a b", "a\nb", "a:b"),
    ],
)
async def test_a_document_with_a_routing_header_parameter_is_refused(
    case: Case, site: Site, tmp_path: Path, name: str
) -> None:
    with pytest.raises(PorticoError, match="deny") as caught:
        await add(case, site, tmp_path, ID, parameter(name, "header"))
    assert caught.value.code == "invalid_openapi"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        *(
            ("Authorization", "header"),
            ("authorization", "header"),
            ("Accept", "header"),
            ("content-type", "header"),
        ),
        *(
            ("X-Api-Key", "header"),
            ("x_api_key", "header"),
            ("token", "query"),
            ("X-Own", "header"),
            ("own", "query"),
        ),
    ],
)
async def test_parameters_set_by_the_operator_cannot_be_given_as_arguments(
    case: Case, site: Site, tmp_path: Path, name: str, place: str
) -> None:
    properties = await add(
        case,
        site,
        tmp_path,
        ID,
        parameter(name, place),
        url=f"{site.url}/v1?own={SECRET}",
        headers={"Authorization": f"Bearer {SECRET}", "x-own": SECRET},
    )
    assert set(properties) == {"id"}
    with pytest.raises(InvalidRequest):
        await case.use("zoo_get", id="a", **{name: "theirs"})
    result = await case.use("zoo_get", id="a")
    assert result.structured is not None
    assert site.requests[-1].headers["Authorization"] == f"Bearer {SECRET}"
    assert dict(site.requests[-1].query) == {"own": SECRET}
    assert SECRET not in result.text
    assert SECRET not in json.dumps((await case.card("zoo_get")).input_schema)


@pytest.mark.parametrize("value", ["a\r\nHost: evil", "a\nb", "a\0b", "a\x01b", "a\x7fb"])
async def test_a_header_has_no_control_characters(case: Case, site: Site, tmp_path: Path, value: str) -> None:
    await add(case, site, tmp_path, ID, parameter("X-Trace", "header"))
    result = await case.use("zoo_get", id="a", **{"X-Trace": value})
    assert result.is_error and "control characters" in result.text
    assert not site.requests


async def test_an_operator_header_with_control_characters_is_refused(
    case: Case, site: Site, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match="control characters"):
        await add(case, site, tmp_path, ID, headers={"X-Trace": "a\x01b"})
