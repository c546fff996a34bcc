"""Views: what hosts that show pages learn about them, the tools behind them, and the pages themselves in a browser.

A host that speaks the extension's protocol shows the pages and passes their calls to the daemon.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import pytest_asyncio
from mcp import Client
from mcp.client.extension import advertise
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from tests import daemon as daemons
from tests.browser import CHROMIUM, Page, browser
from tests.server.features.readers import documents

from portico_server.features.mcp.views import EXTENSION, MEDIA_TYPE, NAMES

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = advertise(EXTENSION, {"mimeTypes": [MEDIA_TYPE]})
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>parent.postMessage(1,'*')</script>"
RENT = "The rent of the flat\nis 840 euros a month.\n" + HOSTILE
FORM = {
    "type": "object",
    "properties": {"street": {"type": "string", "title": "Street"}, "floor": {"type": "integer"}},
    "required": ["street"],
}
CONFIGURATION: dict[str, Any] = {
    "models": [
        {
            "name": "clerk",
            "source": "fake://",
            "aliases": ["default"],
            "parameters": {"script": [{"match": ".", "content": f"It is 840 euros a month [1]. {HOSTILE}"}]},
        },
        {"name": "vectors", "source": "fake://", "task": "embedding", "aliases": ["default-embedding"]},
    ],
    "tools": [{"name": "empty_cache", "command": ["echo", "emptied"], "approval": "always"}],
    "apps": [
        {
            "name": "deliver",
            "flow": {
                "input_schema": {"type": "object", "properties": {"what": {"type": "string"}}},
                "step": {"op": "approve", "message": f"Where to? {HOSTILE}", "answer_schema": FORM},
            },
        }
    ],
}


class Served:
    """A daemon, the runs that it was asked to keep, and clients of it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    @asynccontextmanager
    async def client(self, key: str = "", below: str = "", **options: Any) -> AsyncIterator[Client]:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            transport = streamable_http_client(f"{self.url}/mcp{below}", http_client=http)
            async with Client(transport, **options) as client:
                yield client

    async def post(self, path: str, **given: Any) -> Any:
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            return (await http.post(path, **given)).raise_for_status().json()

    async def get(self, path: str) -> Any:
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            return (await http.get(path)).raise_for_status().json()

    async def wait(self, run: str) -> None:
        """Wait until a run has ended."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            assert "event: finished" in (await http.get(f"/api/runs/{run}/events")).text


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("views")
    (folder / "docs").mkdir()
    (folder / "docs" / "lease.pdf").write_bytes(documents.pdf("A first page.", RENT))
    stores = [{"name": "leases", "folder": str(folder / "docs"), "app": True, "embedding_model": "vectors"}]
    (folder / "portico.yaml").write_text(json.dumps({**CONFIGURATION, "stores": stores}), encoding="utf-8")
    with daemons.running(folder / "home", "--file", str(folder / "portico.yaml")) as daemon:
        daemon.settle()
        yield Served(daemon.url, folder)


async def evaluated(served: Served) -> None:
    """Create an evaluation with two runs."""
    schema = {"type": "object", "properties": {"country": {"type": "string"}}}
    test = await served.post(
        "/v1/evals",
        json={
            "name": f"rents {HOSTILE}",
            "data_source_config": {"type": "custom", "item_schema": schema},
            "testing_criteria": [
                {
                    "type": "string_check",
                    "name": "named",
                    "operation": "like",
                    "input": "{{sample.output_text}}",
                    "reference": "840",
                }
            ],
        },
    )
    source = {
        "type": "completions",
        "model": "clerk",
        "source": {"type": "file_content", "content": [{"item": {"country": "Peru"}}]},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "Rent?"}]},
    }
    for _ in range(2):
        run = await served.post(f"/v1/evals/{test['id']}/runs", json={"data_source": source})
        await served.wait(run["run_id"])


async def trained(served: Served) -> str:
    """Return a fine-tuning job that has ended."""
    messages = [{"role": "user", "content": "Rent?"}, {"role": "assistant", "content": "840 euros."}]
    examples = (json.dumps({"messages": messages}) + "\n") * 12
    file = await served.post(
        "/v1/files", files={"file": ("examples.jsonl", examples)}, data={"purpose": "fine-tune"}
    )
    job = await served.post("/v1/fine_tuning/jobs", json={"model": "clerk", "training_file": file["id"]})
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
        await http.get(f"/v1/fine_tuning/jobs/{job['id']}/events/stream")
    return str(job["id"])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_views_are_offered_only_to_hosts_that_show_them(served: Served, mode: Any) -> None:
    async with served.client(mode=mode) as plain, served.client(mode=mode, extensions=[HOST]) as host:
        host_tools = {tool.name: tool for tool in (await host.list_tools()).tools}
        plain_tools = {tool.name: tool for tool in (await plain.list_tools()).tools}
        assert set(host_tools) - set(plain_tools) == NAMES and not any(
            tool.meta for tool in plain_tools.values()
        )
        assert all(
            plain_tools[name] == tool.model_copy(update={"meta": None})
            for name, tool in host_tools.items()
            if name in plain_tools
        )
        views = {name: tool.meta["ui"]["resourceUri"] for name, tool in host_tools.items() if tool.meta}
        assert views == {
            "search_leases": "ui://portico/citations",
            "leases": "ui://portico/citations",
            "deliver": "ui://portico/approvals",
            "empty_cache": "ui://portico/approvals",
            "portico_page": "ui://portico/citations",
            "portico_questions": "ui://portico/approvals",
            "portico_answer": "ui://portico/approvals",
            "portico_eval": "ui://portico/chart",
            "portico_finetune": "ui://portico/chart",
        }
        hidden = {
            name
            for name, tool in host_tools.items()
            if (tool.meta or {}).get("ui", {}).get("visibility") == ["app"]
        }
        assert hidden == {"portico_page", "portico_answer"}
        for uri in set(views.values()):
            (content,) = (await host.read_resource(uri)).contents
            assert content.mime_type == MEDIA_TYPE and len(content.text) < 50_000
            assert list(content.meta["ui"]["csp"].values()) == [[], [], [], []]
            assert "default-src 'none'; script-src 'sha256-" in content.text
            assert "://" not in re.sub("http://www.w3.org/|portico://", "", content.text)
        with pytest.raises(MCPError, match="The tool 'portico_questions' does not exist"):
            await plain.call_tool("portico_questions")
        host_result = await host.call_tool("search_leases", {"query": "rent"})
        plain_result = await plain.call_tool("search_leases", {"query": "rent"})
        assert (
            host_result.content == plain_result.content
            and host_result.structured_content == plain_result.structured_content
        )


async def test_a_view_gives_nobody_more_than_the_key_may(served: Served) -> None:
    keys = {
        name: (await served.post("/api/keys", json={"name": name, "scopes": scopes}))["key"]
        for name, scopes in (("reads", ["stores:leases:read"]), ("calls", ["tools:*:call"]))
    }
    file = (await served.get("/api/stores/leases/files"))["data"][0]["id"]
    page = {"store": "leases", "file": file, "page": 2, "passage": "is 840 euros"}
    async with (
        served.client(keys["reads"], extensions=[HOST]) as reads,
        served.client(keys["calls"], extensions=[HOST]) as calls,
        served.client(below="/stores/leases", extensions=[HOST]) as narrow,
    ):
        tool_names = {tool.name for tool in (await reads.list_tools()).tools}
        assert {"portico_page", "portico_questions"} < tool_names and not tool_names & {
            "portico_eval",
            "portico_finetune",
        }
        drawing = await reads.call_tool("portico_page", page)
        assert [block.type for block in drawing.content] == ["text", "image"]
        error_result = await calls.call_tool("portico_page", page)
        assert error_result.is_error and "leases" in error_result.content[0].text
        for wrong, error_text in (
            ({**page, "page": 9}, "page"),
            ({**page, "page": 0}, "page"),
            ({**page, "file": "file-none"}, "file-none"),
            ({**page, "passage": "x" * 20_001}, "passage"),
            ({}, "store"),
        ):
            result = await reads.call_tool("portico_page", wrong)
            assert result.is_error and error_text in result.content[0].text
        with pytest.raises(MCPError, match="portico_eval"):
            await reads.call_tool("portico_eval")
        assert {tool.name for tool in (await narrow.list_tools()).tools} == {
            "fetch",
            "search",
            "search_leases",
            "portico_page",
            "portico_questions",
            "portico_answer",
        }
        assert not (await narrow.call_tool("portico_page", page)).is_error
        other_result = await narrow.call_tool("portico_page", {**page, "store": "other"})
        assert other_result.is_error and "not visible at this endpoint" in other_result.content[0].text

        asking = asyncio.create_task(calls.call_tool("empty_cache", {}))
        question = await pending(served)
        async with asyncio.timeout(60):
            assert (await reads.call_tool("portico_questions")).structured_content == {"questions": []}
            stranger = await reads.call_tool("portico_answer", {"id": question, "accepted": True})
            assert (
                stranger.is_error and f"The question '{question}' does not exist" in stranger.content[0].text
            )
            (question_row,) = (
                await calls.call_tool("portico_questions", {"tool": "empty_cache"})
            ).structured_content["questions"]
            assert (question_row["id"], question_row["kind"], question_row["name"]) == (
                question,
                "approval",
                "empty_cache",
            )
            own_result = await calls.call_tool(
                "portico_answer", {"id": question, "accepted": False, "note": "not now"}
            )
            assert own_result.structured_content == {"id": question, "accepted": False}
            assert "not now" in (await asking).content[0].text
            late = await calls.call_tool("portico_answer", {"id": question, "accepted": True})
            assert late.is_error and "already refused" in late.content[0].text


async def pending(served: Served) -> str:
    """Return the id of the next pending question."""
    async with (
        httpx.AsyncClient(base_url=served.url, timeout=60) as http,
        http.stream("GET", "/api/questions/events") as events,
    ):
        async for line in events.aiter_lines():
            if line.startswith("data:") and (question := json.loads(line[5:]))["status"] == "pending":
                return str(question["id"])
    raise AssertionError("no question came")


HOST_PAGE = """(() => {
  window.asked = [];
  window.sizes = 0;
  window.frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts allow-same-origin";
  window.note = () => { document.body.dataset.seen = Number(document.body.dataset.seen ?? 0) + 1; };
  window.inner = () => frame.contentDocument;
  window.tell = (message) => frame.contentWindow.postMessage({jsonrpc: "2.0", ...message}, "*");
  onmessage = ({source, data}) => {
    if (data.jsonrpc !== "2.0") throw new Error("not of the protocol: " + JSON.stringify(data));
    // What the view before it posted last may arrive once its frame is gone.
    if (source !== frame.contentWindow) return;
    if (data.method === "ui/notifications/size-changed") sizes += 1;
    else asked.push(data);
    note();
  };
  frame.addEventListener("load", () => {
    new MutationObserver(note).observe(
      inner(), {subtree: true, childList: true, attributes: true, characterData: true});
    note();
  });
  frame.srcdoc = HTML;
  document.body.replaceChildren(frame);
})()"""


class Host:
    """A host with one view, which forwards the view's tool calls to `client`."""

    def __init__(self, page: Page, client: Client) -> None:
        self.page = page
        self.client = client
        self.names: list[str] = []
        self._taken = 0

    async def take(self) -> dict[str, Any]:
        """Return the next message of the view."""
        message: dict[str, Any] = await self.page.until(f"asked[{self._taken}]")
        self._taken += 1
        return message

    async def tell(self, message: dict[str, Any]) -> None:
        await self.page.run(f"tell({json.dumps(message)})")

    async def show(self, tool: str, arguments: dict[str, Any], locale: str = "en-GB") -> None:
        """Show the view of a tool, once the handshake is complete and the view knows which tool is called."""
        tools = {item.name: item for item in (await self.client.list_tools()).tools}
        uri = tools[tool].meta["ui"]["resourceUri"]
        html = (await self.client.read_resource(uri)).contents[0].text
        self._taken = 0
        await self.page.run(HOST_PAGE.replace("HTML", json.dumps(html).replace("</", "<\\/")))
        hello = await self.take()
        assert (hello["method"], hello["params"]["protocolVersion"]) == ("ui/initialize", "2026-01-26")
        context = {"toolInfo": {"tool": {"name": tool}}, "theme": "light", "locale": locale}
        answer = {
            "protocolVersion": "2026-01-26",
            "hostInfo": {"name": "test", "version": "1"},
            "hostCapabilities": {"serverTools": {}},
            "hostContext": context,
        }
        await self.tell({"id": hello["id"], "result": answer})
        assert (await self.take())["method"] == "ui/notifications/initialized"
        await self.tell({"method": "ui/notifications/tool-input", "params": {"arguments": arguments}})

    async def give(self, result: Any) -> None:
        """Give the view the result of the call."""
        params = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        await self.tell({"method": "ui/notifications/tool-result", "params": params})

    async def serve(self) -> None:
        """Forward calls of the view until the host is stopped."""
        while (request := await self.take())["method"] != "end":
            assert request["method"] == "tools/call"
            self.names.append(request["params"]["name"])
            result = await self.client.call_tool(request["params"]["name"], request["params"]["arguments"])
            body = result.model_dump(mode="json", by_alias=True, exclude_none=True)
            await self.tell({"id": request["id"], "result": body})

    async def until(self, script: str) -> Any:
        """Wait like `Page.until`, but on what the view shows; an error message includes the view's content."""
        try:
            return await self.page.until(script)
        except AssertionError as error:
            raise AssertionError(f"{error}: {await self.page.run('inner().body.innerText')}") from error

    async def press(self, words: str) -> None:
        """Press the button with those words once it is enabled."""
        button = f"[...inner().querySelectorAll('button')].find((it) => it.innerText === {json.dumps(words)})"
        await self.page.until(f"{button} && !{button}.disabled")
        await self.page.run(f"{button}.click()")


@asynccontextmanager
async def serving(host: Host) -> AsyncIterator[None]:
    """Answer calls of the view during the block."""
    task = asyncio.create_task(host.serve())
    try:
        yield
    finally:
        await host.page.run("asked.push({method: 'end'}), note()")
        await task


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
async def test_the_views_render_and_respond_in_a_browser(served: Served) -> None:
    await evaluated(served)
    job = await trained(served)
    async with (
        browser(served.folder / "profile") as page,
        served.client(extensions=[HOST]) as client,
        served.client(extensions=[HOST]) as caller,
    ):
        await page.run("document.body.replaceChildren()")
        host = Host(page, client)

        # An answer: its text, the quote, and the page with the passage marked.
        await host.show("leases", {"input": "What is the rent?"})
        async with serving(host):
            await host.give(await caller.call_tool("leases", {"input": "What is the rent?"}))
            assert "840 euros a month" in await host.until("inner().querySelector('blockquote')?.innerText")
            assert await page.run("inner().querySelector('.sources strong').innerText") == "lease.pdf"
            assert "<img src=x" in await page.run("inner().body.innerText")
            await host.press("Page")
            width = await host.until("inner().querySelector('.sources img')?.naturalWidth")
            assert width > 300
        assert "portico_page" in host.names
        assert await page.run("[inner().images.length, inner().scripts.length, inner().title]") == [
            1,
            1,
            "Sources (1)",
        ]

        # The same in Chinese, without the cited page: passages of a search.
        await host.show("search_leases", {"query": "rent"}, "zh-CN")
        await host.give(await caller.call_tool("search_leases", {"query": "rent"}))
        assert await host.until("inner().querySelector('.sources button')?.innerText") == "页面"

        # A call that asks for approval: the view can grant it, and shows the answer.
        await host.show("empty_cache", {})
        calling = asyncio.create_task(caller.call_tool("empty_cache", {}))
        async with serving(host):
            await host.press("Allow")
            await host.until("inner().body.innerText.includes('empty_cache: answered.')")
        async with asyncio.timeout(60):
            result = await calling
        await host.give(result)
        assert await host.until("inner().querySelector('main > pre')?.innerText") == "emptied\n"

        # A flow that asks with a form in Chinese.
        await host.show("deliver", {"what": "flowers"}, "zh-CN")
        calling = asyncio.create_task(caller.call_tool("deliver", {"what": "flowers"}))
        async with serving(host):
            await host.until("inner().querySelectorAll('form label').length === 2")
            assert HOSTILE in await page.run("inner().querySelector('.question p').innerText")
            await page.run(
                "(() => { const field = inner().querySelector('form textarea'); field.value = 'Elm Road';"
                " field.dispatchEvent(new Event('input', {bubbles: true})); })()"
            )
            await host.press("回答")
            await host.until("inner().body.innerText.includes('已回答')")
        async with asyncio.timeout(60):
            result = await calling
        assert result.structured_content["street"] == "Elm Road"

        # Charts: a line for each model and a line for each loss.
        await host.show("portico_eval", {})
        scores = await caller.call_tool("portico_eval", {})
        assert "Score" in scores.content[0].text
        await host.give(scores)
        assert await host.until("inner().querySelectorAll('circle').length") == 2
        assert HOSTILE in await page.run("inner().querySelector('h1').innerText")
        await host.show("portico_finetune", {"job": job})
        async with serving(host):
            await host.give(await caller.call_tool("portico_finetune", {"job": job}))
            points = await host.until("inner().querySelector('polyline')?.getAttribute('points')")
            assert len(points.split()) > 1 and "train_loss" in await page.run("inner().body.innerText")
            await host.press("Refresh")
            await host.until("!inner().querySelector('button').disabled")

        # Other messages that the host may send.
        await host.tell({"id": "p", "method": "ping"})
        assert (await host.take()) == {"jsonrpc": "2.0", "id": "p", "result": {}}
        await host.tell({"id": "x", "method": "tools/list"})
        assert (await host.take())["error"]["code"] == -32601
        await host.give(await caller.call_tool("portico_finetune", {"job": "ftjob-none"}))
        assert "ftjob-none" in await host.until("inner().querySelector('.bad')?.innerText")
        assert await page.run("sizes > 0 && inner().images.length") == 0
        assert page.complaints == []
