"""The secrets of an operator reach no model and leave the daemon by no exit: each secret at each exit."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.api_server import ApiServer, api_server
from tests.server.api.echoing_mcp import reply
from tests.server.features.tools.web import Site, serving

from portico_server import logs
from portico_server.core.roles import Role

SECRETS = {
    name: f"zq{number}{name.replace(' ', '')}7f31a2"
    for number, name in enumerate(
        (
            "model key",
            "model header",
            "api header",
            "api query",
            "command env",
            "function env",
            "mcp env",
            "mcp header",
            "mcp query",
            "failing mcp header",
            "database password",
            "source login",
            "source query",
            "search key",
            "hub token",
            "bucket secret",
            "client secret",
            "admin key",
        ),
        10,
    )
}

EXITS = (
    "lists",
    "items",
    "answers of models",
    "answers of tools",
    "what a model gets",
    "traces",
    "spans",
    "packages",
    "logs",
)

SOURCES = ("api_", "prints", "breaks", "shows", "stdio_", "web_")

OPERATIONS = {"works": 200, "fails": 500}


def echo(request: web.Request) -> str:
    return json.dumps({"echoed": [str(request.rel_url), *map(list, request.headers.items())]})


async def answer_mcp(request: web.Request) -> web.StreamResponse:
    if request.method != "POST":
        return web.Response(status=405)
    answer = reply(await request.json(), echo(request))
    return web.Response(status=202) if answer is None else web.json_response(answer)


async def refuse(request: web.Request) -> web.StreamResponse:
    return web.json_response({"error": {"message": f"refused: {echo(request)}"}}, status=401)


async def describe_api(request: web.Request) -> web.StreamResponse:
    operations = {
        f"/{name}": {"get": {"operationId": name, "description": echo(request)}} for name in OPERATIONS
    }
    return web.json_response({"openapi": "3.0.0", "info": {"title": "Echo"}, "paths": operations})


async def answer_operation(request: web.Request) -> web.StreamResponse:
    name = request.path.rpartition("/")[2]
    return web.Response(text=echo(request), content_type="application/json", status=OPERATIONS[name])


class Spans:
    """An OpenTelemetry collector that keeps what it was sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        return web.Response(content_type="application/x-protobuf")


class Model:
    """A model that calls each tool once, and keeps what it was sent."""

    def __init__(self) -> None:
        self.bodies: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(json.dumps(body))
        message: dict[str, Any] = {"role": "assistant", "content": "done"}
        finish = "stop"
        if body["messages"][-1]["role"] == "user" and body.get("tools"):
            finish = "tool_calls"
            message["tool_calls"] = [
                {
                    "id": f"call_{number}",
                    "type": "function",
                    "function": {"name": tool["function"]["name"], "arguments": "{}"},
                }
                for number, tool in enumerate(body["tools"])
            ]
        choice = {"index": 0, "message": message, "finish_reason": finish}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return web.json_response(
            {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}
        )


@contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(folder, "debug", "text", quiet=True)
    try:
        yield
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)


async def exits(folder: Path) -> Mapping[str, str]:
    """Serve a daemon with all secrets, use everything that has one, and return what came out of each exit."""
    model, spans = Model(), Spans()
    pages = {
        "/v1/traces": spans.answer,
        "/refuses/chat/completions": refuse,
        "/writes/chat/completions": model.answer,
        "/openapi.json": describe_api,
        "/mcp": answer_mcp,
        "/closed": refuse,
        "/dav/": refuse,
        "/page": refuse,
        **{f"/{name}": answer_operation for name in OPERATIONS},
    }
    async with serving(pages) as site:
        settings = {
            "tool_hosts": site.host,
            "source_logins": f"{site.host}=reader:{SECRETS['source login']}",
            "tool_approval": "never",
            "web_search": "brave",
            "web_search_key": SECRETS["search key"],
            "hf_token": SECRETS["hub token"],
            "s3_secret_key": SECRETS["bucket secret"],
            "otel_endpoint": site.url,
            "oidc_issuer": site.url,
            "oidc_hosts": site.host,
            "oidc_client_id": "portico",
            "oidc_client_secret": SECRETS["client secret"],
            "api_key": SECRETS["admin key"],
        }
        with logging_to(folder / "logs"):
            async with api_server(folder, roles=[Role("everybody", ("chat",))], **settings) as server:
                server.client.headers["Authorization"] = f"Bearer {SECRETS['admin key']}"
                texts = await collect(server, site, folder)
        texts["what a model gets"] = "\n".join(model.bodies)
        texts["spans"] = b"\n".join(spans.bodies).decode(errors="replace")
        texts["logs"] = (folder / "logs" / "daemon.log").read_text()
        return texts


async def collect(served: ApiServer, site: Site, folder: Path) -> dict[str, str]:
    (folder / "echoing.py").write_text(
        "import os\n\ndef show() -> str:\n    'Show.'\n    return str(dict(os.environ))\n\n"
        "def fail() -> str:\n    'Fail.'\n    raise ValueError(str(dict(os.environ)))\n"
    )
    texts = dict.fromkeys(EXITS, "")

    async def call(method: str, path: str, exit: str, body: Any = None) -> str:
        answer = await served.client.request(method, path, json=body)
        texts[exit] += f"{method} {path} {answer.status_code}: {answer.text}\n"
        return answer.text

    async def create(path: str, **body: Any) -> None:
        await call("POST", path, "items", body)

    reach = f"{site.url}/closed?api_key={SECRETS['mcp query']}"
    remote = {"headers": {"X-Tenant-Key": SECRETS["model header"]}, "retries": 0}
    await create(
        "/api/deployments",
        name="refuser",
        source=f"{site.url}/refuses#m",
        api_key=SECRETS["model key"],
        parameters=remote,
    )
    await create("/api/deployments", name="writer", source=f"{site.url}/writes#m")
    show = [
        sys.executable,
        "-c",
        "import os,sys; print(dict(os.environ)); print(os.environ, file=sys.stderr)",
    ]
    await create(
        "/api/tool-sources",
        name="api",
        openapi=f"{site.url}/openapi.json?token={SECRETS['api query']}",
        url=f"{site.url}?token={SECRETS['api query']}",
        headers={"Authorization": f"Bearer {SECRETS['api header']}"},
    )
    env = {"SERVICE_TOKEN": SECRETS["command env"]}
    await create("/api/tool-sources", name="prints", command=show, env=env, description="Prints.")
    failing = [*show[:2], f"{show[2]}; sys.exit(3)"]
    await create("/api/tool-sources", name="breaks", command=failing, env=env, description="Breaks.")
    env = {"SERVICE_TOKEN": SECRETS["function env"]}
    await create("/api/tool-sources", name="shows", function="echoing:*", folder=str(folder), env=env)
    address = f"postgresql://reader:{SECRETS['database password']}@127.0.0.1:9/sales"
    await create("/api/tool-sources", name="rows", database=address)
    script = str(Path(__file__).with_name("echoing_mcp.py"))
    await create(
        "/api/mcp/servers",
        name="stdio",
        command=[sys.executable, script],
        env={"SERVICE_TOKEN": SECRETS["mcp env"]},
    )
    for name, url, secret in (
        ("web", f"{site.url}/mcp?api_key={SECRETS['mcp query']}", "mcp header"),
        ("closed", reach, "failing mcp header"),
    ):
        headers = {"Authorization": f"Bearer {SECRETS[secret]}"}
        await create("/api/mcp/servers", name=name, url=url, headers=headers)
    await create("/api/stores", name="dav", source=f"webdav+{site.url}/dav/")
    await create("/api/stores", name="pages", source=f"{site.url}/page?token={SECRETS['source query']}")
    for name in ("dav", "pages"):
        await call("POST", f"/api/stores/{name}/sync", "items")

    ask = {"messages": [{"role": "user", "content": "Hello"}]}
    for stream in (False, True):
        body = {"model": "refuser", "stream": stream, **ask}
        await call("POST", "/v1/chat/completions", "answers of models", body)
    await call("POST", "/v1/responses", "answers of models", {"model": "refuser", "input": "Hello"})
    body = {"model": "refuser", "max_tokens": 9, **ask}
    await call("POST", "/v1/messages", "answers of models", body)

    tools = [item["name"] for item in json.loads(await call("GET", "/api/tools", "items"))["data"]]
    source_tools = sorted(
        name for name in tools if name.startswith(SOURCES) and name not in ("web_fetch", "web_search")
    )
    assert len(source_tools) == 12, tools
    for name in source_tools:
        await call("POST", f"/api/tools/{name}/call", "answers of tools", {"arguments": {}})
        await call("GET", f"/api/tools/{name}", "items")
    agent = {"portico_agent": 1, "model": "writer", "tools": source_tools}
    await create("/api/apps", name="desk", kind="agent", spec=agent)
    await call("POST", "/v1/chat/completions", "answers of tools", {"model": "desk", **ask})
    await call("POST", "/api/apps/desk/package/plan", "packages", {})
    answer = await served.client.post("/api/apps/desk/package", json={})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as package:
        texts["packages"] += "\n".join(
            package.read(name).decode(errors="replace") for name in package.namelist()
        )

    for server in ("stdio", "web", "closed"):
        for kind in ("", "/logs") if server == "closed" else ("", "/logs", "/resources", "/prompts"):
            await call("GET", f"/api/mcp/servers/{server}{kind}", "items")
    for server in ("stdio", "web"):
        await call("POST", f"/api/mcp/servers/{server}/resources/read", "items", {"uri": "note://a"})
        await call("POST", f"/api/mcp/servers/{server}/prompts/render", "items", {"name": "p"})
    for path in ("deployments/refuser", "deployments/refuser/logs", "stores/dav", "stores/pages"):
        await call("GET", f"/api/{path}", "items")
    for name in ("api", "prints", "shows"):
        await call("GET", f"/api/tool-sources/{name}", "items")

    routes = json.loads((await served.client.get("/openapi.json")).text)["paths"]
    for path in sorted(routes):
        if "get" in routes[path] and "{" not in path and path not in ("/api/backup", "/api/questions/events"):
            await call("GET", path, "lists")
    for run in json.loads((await served.client.get("/api/runs?limit=100")).text)["data"]:
        for kind in ("", "/trace", "/recording", "/events"):
            if kind != "/events" or run["status"] in ("completed", "failed"):
                await call("GET", f"/api/runs/{run['id']}{kind}", "traces")
    return texts


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    return asyncio.run(exits(tmp_path_factory.mktemp("secrets")))


@pytest.mark.parametrize("exit", EXITS)
@pytest.mark.parametrize("secret", SECRETS)
def test_no_operator_secret_appears_in_any_output(texts: Mapping[str, str], secret: str, exit: str) -> None:
    text = texts[exit]
    assert text
    place = text.find(SECRETS[secret])
    assert place < 0, text[max(0, place - 300) : place + 100]
