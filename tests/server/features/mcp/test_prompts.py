"""Prompts over MCP: listed in pages, filled in, completed, announced."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError
from tests.mcp_service import Service
from tests.server.features.mcp.conftest import Connect, Era

from portico_server.core.principal import LOCAL, Principal
from portico_server.core.prompts.spec import parse
from portico_server.features.mcp.prompts import PAGE_SIZE

TRANSLATE = parse(
    {
        "name": "team/translate",
        "title": "Translate",
        "description": "Puts a text into another language.",
        "arguments": [
            {"name": "text", "required": True, "description": "What to translate."},
            {"name": "language", "enum": ["English", "German", "Greek"], "default": "English"},
            {"name": "times", "type": "integer", "default": 1},
            {"name": "loud", "type": "boolean"},
        ],
        "messages": [
            {"role": "system", "content": "Into {language}, {times} times, loud: {loud}."},
            {"role": "user", "content": "{text}"},
        ],
        "examples": [{"user": "Hallo", "assistant": "Hello"}],
    }
)


async def test_a_prompt_is_listed_with_what_it_takes(connect: Connect, service: Service) -> None:
    await service.prompts.save(TRANSLATE, LOCAL)
    async with connect() as client:
        capability = client.server_capabilities.prompts
        assert capability is not None and capability.list_changed
        (prompt,) = (await client.list_prompts()).prompts
    assert (prompt.name, prompt.title) == ("team/translate", "Translate")
    takes = {item.name: (item.required, item.description) for item in prompt.arguments or ()}
    assert takes == {
        "text": (True, "What to translate."),
        "language": (False, "One of: English, German, Greek. Default: English."),
        "times": (False, "Integer. Default: 1."),
        "loud": (False, "Boolean."),
    }


async def test_a_prompt_is_filled_in_from_text(connect: Connect, service: Service) -> None:
    await service.prompts.save(TRANSLATE, LOCAL)
    async with connect() as client:
        prompt = await client.get_prompt(
            "team/translate", {"text": "Bis {morgen}", "times": "3", "loud": "True"}
        )
        messages = [(message.role, message.content.text) for message in prompt.messages]  # type: ignore[union-attr]
        assert messages == [
            ("user", "Into English, 3 times, loud: true."),
            ("user", "Hallo"),
            ("assistant", "Hello"),
            ("user", "Bis {morgen}"),
        ]
        for arguments, words in (
            ({}, "needs the argument 'text'"),
            ({"text": "x", "langage": "German"}, "Did you mean 'language'"),
            ({"text": "x", "times": "often"}, "must be an integer"),
            ({"text": "x", "language": "Latin"}, "must be one of"),
        ):
            with pytest.raises(MCPError, match=words) as caught:
                await client.get_prompt("team/translate", arguments)
            assert caught.value.code == types.INVALID_PARAMS
        with pytest.raises(MCPError, match="Did you mean 'team/translate'"):
            await client.get_prompt("team/translat")


async def test_prompts_come_in_pages(connect: Connect, service: Service) -> None:
    names = [f"p{number:03}" for number in range(PAGE_SIZE + 1)]
    for name in names:
        await service.prompts.save(parse({"name": name, "messages": "x"}), LOCAL)
    async with connect() as client:
        first = await client.list_prompts()
        assert [prompt.name for prompt in first.prompts] == names[:PAGE_SIZE] and first.next_cursor
        second_page = await client.list_prompts(cursor=first.next_cursor)
        assert [prompt.name for prompt in second_page.prompts] == names[
            PAGE_SIZE:
        ] and second_page.next_cursor is None
        with pytest.raises(MCPError, match="cursor"):
            await client.list_prompts(cursor="W10=")


async def test_arguments_are_completed(connect: Connect, service: Service) -> None:
    await service.prompts.save(TRANSLATE, LOCAL)
    ref = types.PromptReference(type="ref/prompt", name="team/translate")
    async with connect() as client:

        async def values(name: str, typed: str) -> list[str]:
            return (await client.complete(ref, {"name": name, "value": typed})).completion.values

        assert await values("language", "g") == ["German", "Greek", "English"]
        assert await values("loud", "") == ["false", "true"]
        assert await values("text", "a") == await values("none", "a") == []


async def test_a_key_sees_no_other_key_s_prompts_and_a_narrow_endpoint_none(
    connect: Connect, service: Service
) -> None:
    await service.prompts.save(TRANSLATE, LOCAL)
    await service.prompts.save(
        parse({"name": "mine", "messages": "x"}), Principal("someone", frozenset({"chat"}))
    )
    async with connect("reader") as client:
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["team/translate"]
        with pytest.raises(MCPError, match="The prompt 'mine' does not exist"):
            await client.get_prompt("mine")
    async with connect(below="/stores/docs") as client:
        assert (await client.list_prompts()).prompts == []
        with pytest.raises(MCPError, match="no prompts"):
            await client.get_prompt("team/translate", {"text": "x"})


async def test_a_new_prompt_is_announced(connect: Connect, service: Service, era: Era) -> None:
    notification = asyncio.Event()

    async def note(message: Any) -> None:
        if isinstance(message, types.PromptListChangedNotification):
            notification.set()

    async with asyncio.timeout(60), connect(message_handler=note) as client:
        if era == "legacy":
            number = 0
            while (
                not notification.is_set()
            ):  # messages sent before the standing stream opens are lost by design
                number += 1
                await service.prompts.save(parse({"name": "new", "messages": f"{number}"}), LOCAL)
                await client.list_prompts()
        else:
            async with client.listen(prompts_list_changed=True) as changes:
                await service.prompts.save(parse({"name": "new", "messages": "x"}), LOCAL)
                assert type(await anext(changes)).__name__ == "PromptsListChanged"
