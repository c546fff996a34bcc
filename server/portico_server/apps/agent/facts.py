"""Facts that a model extracts from a turn. They are kept in a store and recalled for later messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from portico_server.apps.agent.message import AgentMessage
from portico_server.apps.agent.spec import LongTermSpec
from portico_server.apps.flow.format import response_format, unwrapped
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.origins import Origins, join_origins
from portico_server.core.prompts import builtin
from portico_server.core.request import Chat, Filter, Search, SearchResult

MAX_FACTS: Final = 5
"""Maximum number of facts per turn."""

MAX_FACT_CHARS: Final = 500
"""Maximum length of a fact, in characters."""

UNKNOWN_ORIGIN: Final = "a remembered fact of unknown origin"

MAX_FACT_ORIGINS: Final = 4
"""Maximum number of origins of a fact: an attribute of a file has at most 512 characters."""

_SEPARATOR: Final = "\n"

_SCHEMA: Final = {"type": "array", "items": {"type": "string"}, "maxItems": MAX_FACTS}


@dataclass(frozen=True, slots=True)
class RecalledFact:
    """A fact from an earlier conversation, with the origins of the foreign data from which it was learnt."""

    text: str
    origins: Origins = ()


def origins_attribute(origins: Origins) -> str:
    """Return the origins of facts as the attribute ``origins`` of their files."""
    return _SEPARATOR.join(origins[:MAX_FACT_ORIGINS])


async def recall(policy: LongTermSpec, message: AgentMessage, context: Context) -> tuple[RecalledFact, ...]:
    """Return the caller's facts that relate to a message, nearest first."""
    if not message.text.strip():
        return ()
    owner_filter = Filter(
        "and", filters=(Filter("eq", "fact", True), Filter("eq", "owner", context.caller.id))
    )
    search = Search(message.text[:2000], max_num_results=policy.facts, filters=owner_filter)
    result = await context.call(f"store/{policy.store}", search)
    assert isinstance(result, SearchResult)
    recalled_facts: dict[str, RecalledFact] = {}
    for passage in result.passages:
        text, names = passage.text.strip(), passage.attributes.get("origins", UNKNOWN_ORIGIN)
        recalled_facts.setdefault(text, RecalledFact(text, join_origins(str(names).split(_SEPARATOR))))
    return tuple(recalled_facts.values())


def question(message: AgentMessage, reply: AgentMessage, known_facts: Sequence[str]) -> Chat:
    """Return the request that asks a model for the facts in a turn."""
    before = (
        "Known already:\n" + "\n".join(f"- {fact}" for fact in known_facts) + "\n\n" if known_facts else ""
    )
    conversation = f"{message.sender}: {message.text}\n{reply.sender}: {reply.text}"
    return Chat(
        builtin.messages("remember-facts", conversation=conversation, known=before),
        {"temperature": 0, "max_tokens": 400, "response_format": response_format("facts", _SCHEMA)},
    )


def facts_in(text: str, known_facts: Sequence[str]) -> list[str]:
    """Return the new facts in an answer to `question`; empty if the answer cannot be parsed."""
    try:
        value = unwrapped(_SCHEMA, orjson.loads(text))
    except orjson.JSONDecodeError:
        return []
    facts = (
        [item.strip()[:MAX_FACT_CHARS] for item in value if isinstance(item, str)]
        if isinstance(value, list)
        else []
    )
    return [fact for fact in dict.fromkeys(facts) if fact and fact not in known_facts][:MAX_FACTS]
