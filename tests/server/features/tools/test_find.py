"""Tools are found by group and by what they do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.api_server import api_server
from tests.registry_fixture import ScriptedServable

from portico.wire import Usage
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed
from portico_server.core.principal import LOCAL
from portico_server.core.request import Embed, Request, ToolResult, Vectors
from portico_server.core.servable import Card
from portico_server.core.tool_search import MAX_QUERY_CHARS, SearchedTool
from portico_server.features.tools.built_in_names import GENERAL, names_of
from portico_server.features.tools.builtin import outward
from portico_server.settings import Settings


def card(name: str, description: str = "", group: str = "", **arguments: str) -> Card:
    properties = {key: {"type": "string", "description": text} for key, text in arguments.items()}
    return Card(
        name,
        "tool",
        title=name,
        description=description,
        input_schema={"type": "object", "properties": properties},
        labels={"group": group},
    )


CARDS = [
    card("read_page", "Read a page of the Web.", "browsing", url="Its address."),
    card("address_book", "People.", "office"),
    card("天气", "查询城市的天气预报", "office"),
    card("odd", "Takes anything.", "office"),
]


async def test_tools_are_searched_by_group_words_and_embeddings(tmp_path: Path) -> None:
    async def work(_request: Request, _context: Context) -> ToolResult:
        return ToolResult("Done.")

    async with api_server(tmp_path) as server:
        for entry in CARDS:
            server.services.registry.add(ScriptedServable(entry, work))
        odd = Card("very_odd", "tool", input_schema={"properties": {"x": True, "oddity": {"description": 7}}})
        server.services.registry.add(ScriptedServable(odd, work))

        async def names(**query: str | int) -> list[str]:
            answer = await server.client.get("/api/tools", params=query)
            assert answer.status_code == 200, answer.text
            return [tool["name"] for tool in answer.json()["data"]]

        assert {"read_page", "address_book", "current_time"} <= set(await names())
        assert await names(group="office") == ["address_book", "odd", "天气"]
        assert await names(search="READING pages") == (await names(search="reading pages"))
        assert (await names(search="READING pages"))[0] == "read_page"
        assert (await names(search="address"))[0] == "address_book", "what it is called counts most"
        assert await names(search="天气预报") == ["天气"]
        assert await names(search="oddity") == ["very_odd"]
        assert await names(search="page", group="office") == []
        assert await names(search="zzz") == []
        assert len(await names(search="the of a", limit=2)) <= 2
        for wrong in ({"limit": 0}, {"limit": 101}, {"search": "x" * (MAX_QUERY_CHARS + 1)}):
            assert (await server.client.get("/api/tools", params=wrong)).status_code == 400  # type: ignore[arg-type]

        # With an embedding model, meaning counts too; if it does not answer, only the words count.
        is_broken = False

        async def embed(request: Request, _context: Context) -> Vectors:
            assert isinstance(request, Embed)
            if is_broken:
                raise EngineFailed("It is down.")
            near = (b"\0\0\x80?\0\0\0\0", b"\0\0\0\0\0\0\x80?")
            texts = [text.lower() for text in request.input]
            return Vectors(
                tuple(near["people" not in text and text != "zzz"] for text in texts), 2, Usage(len(texts))
            )

        model = Card("near", "model", capabilities=frozenset({"embeddings"}))
        server.services.registry.add(ScriptedServable(model, embed))
        server.services.registry.aliases.set("default-embedding", "near")
        assert (await names(search="zzz"))[0] == "address_book"
        name_lists = await asyncio.gather(*(names(search="zzz") for _ in range(30)))
        assert all(entry[0] == "address_book" for entry in name_lists), (
            "a key may search as often as it likes"
        )
        for charge, token_count in ((True, len(CARDS) + 1), (False, 0)):
            own = [SearchedTool(f"{entry.name} {charge}", entry.description) for entry in CARDS]

            async def search(
                context: Context, own: list[SearchedTool] = own, charge: bool = charge
            ) -> list[int]:
                return await server.services.tool_search.best("zzz", own, context, charge=charge)

            run = await server.services.runner.begin("test", "tools", LOCAL, search)
            assert (await server.services.runner.wait(run))[0] == 1
            assert run.usage.prompt_tokens == token_count, "who brings tools along pays for their vectors"
        is_broken = True
        assert await names(search="zzz") == []
        assert (await names(search="address"))[0] == "address_book"


@pytest.mark.parametrize("folders", ["", "/tmp"])
async def test_the_names_of_all_built_in_tools_are_known_before_they_are_built(
    tmp_path: Path, folders: str
) -> None:
    async with api_server(tmp_path, tool_folders=folders) as server:
        names = {*GENERAL, *names_of(server.services.settings)}
        cards = await server.services.registry.cards(LOCAL, "tool")
        assert {card.name for card in cards if card.labels["source"] == "built-in"} == names


def test_every_built_in_tool_has_a_group() -> None:
    assert all(tool.group for tool in outward(Settings(tool_folders="/tmp")))
