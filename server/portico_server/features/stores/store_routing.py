"""Lets a chat model choose the stores to search for a question, based on their names and descriptions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.prompts import builtin
from portico_server.core.request import Chat, ChatReply
from portico_server.features.chunkers.prompts import answer_text

ROUTE_TIMEOUT_S = 30.0
"""Seconds that the model has to choose the stores. After that, all stores are searched."""

MAX_ROUTED_STORES = 3
"""Maximum number of stores that the model may choose for a question."""

MAX_SHOWN_QUESTION_CHARS = 2_000
"""Maximum number of characters of a question shown to the model."""

_NUMBER = re.compile(r"\d+")


async def choose_stores(
    query: str, stores: Sequence[tuple[str, str]], writer: str, context: Context
) -> tuple[list[int], str]:
    """Return the numbers, from 0, of the ``stores`` (name, description) to search, and a note for the trace.

    Returns all stores if the model ``writer`` fails, takes too long or names none, because the search must not fail
    for this reason.
    """
    all_numbers = list(range(len(stores)))
    collections = "\n".join(
        f"{number}. {name}{f': {description}' if description else ''}"
        for number, (name, description) in enumerate(stores, start=1)
    )
    messages = builtin.messages(
        "route-stores",
        collections=collections,
        question=query[:MAX_SHOWN_QUESTION_CHARS],
        most=MAX_ROUTED_STORES,
    )
    try:
        async with asyncio.timeout(ROUTE_TIMEOUT_S) as limit:
            reply = await context.call(writer, Chat(messages, {"temperature": 0, "max_tokens": 64}))
        if not isinstance(reply, ChatReply):
            raise EngineFailed(f"'{writer}' did not return a chat completion.")
    except PorticoError as error:
        return all_numbers, f"all stores: {error.message}"
    except TimeoutError:
        if not limit.expired():
            raise
        return all_numbers, f"all stores: '{writer}' took longer than {ROUTE_TIMEOUT_S:g} s"
    numbers = (
        int(number) - 1
        for number in _NUMBER.findall(answer_text(reply.content, cut=False)[:MAX_SHOWN_QUESTION_CHARS])
    )
    chosen_numbers = list(dict.fromkeys(number for number in numbers if 0 <= number < len(stores)))[
        :MAX_ROUTED_STORES
    ]
    if not chosen_numbers:
        return all_numbers, f"all stores: '{writer}' named none"
    return chosen_numbers, ", ".join(stores[number][0] for number in chosen_numbers)
