"""Facts that a model extracts from the user's words in a turn. They are kept in a store and recalled for later
messages.

The model quotes the user for each fact. Portico drops a fact if the user did not say the quotation, or if the
quotation does not support the fact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from portico.schemas.facts import FactSpan
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.facts import UNKNOWN_ORIGIN, NewFact
from portico_server.core.origins import Origins, join_origins
from portico_server.core.prompts import builtin
from portico_server.core.request import Chat, Search, SearchResult
from portico_server.features.agents.message import AgentMessage
from portico_server.features.agents.spans import find_span, find_support
from portico_server.features.agents.spec import LongTermSpec
from portico_server.features.flows.format import response_format, unwrapped

MAX_FACTS: Final = 5
"""Maximum number of facts per turn."""

MAX_FACT_CHARS: Final = 500
"""Maximum length of a fact, in characters."""

MAX_FACT_ORIGINS: Final = 4
"""Maximum number of origins of a fact: an attribute of a file has at most 512 characters."""

_SEPARATOR: Final = "\n"

_SCHEMA: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "fact": {"type": "string"},
            "quote": {"type": "string"},
            "replaces": {"type": ["integer", "null"]},
        },
        "required": ["fact", "quote", "replaces"],
        "additionalProperties": False,
    },
    "maxItems": MAX_FACTS,
}


@dataclass(frozen=True, slots=True)
class RecalledFact:
    """A fact from an earlier conversation, with the origins of the foreign data from which it was learnt.

    ``id`` is the id of the stored fact; empty for a fact that an earlier version of Portico stored.
    """

    text: str
    origins: Origins = ()
    id: str = ""


def origins_attribute(origins: Origins) -> str:
    """Return the origins of facts as the attribute ``origins`` of their files."""
    return _SEPARATOR.join(origins[:MAX_FACT_ORIGINS])


async def recall(policy: LongTermSpec, message: AgentMessage, context: Context) -> tuple[RecalledFact, ...]:
    """Return the caller's facts that relate to a message, nearest first."""
    if not message.text.strip():
        return ()
    search = Search(message.text[:2000], max_num_results=policy.facts)
    result = await context.call(f"memory/{policy.store}", search)
    assert isinstance(result, SearchResult)
    recalled_facts: dict[str, RecalledFact] = {}
    for passage in result.passages:
        text, names = passage.text.strip(), passage.attributes.get("origins", UNKNOWN_ORIGIN)
        fact_id = str(passage.attributes.get("id", ""))
        recalled_facts.setdefault(
            text, RecalledFact(text, join_origins(str(names).split(_SEPARATOR)), fact_id)
        )
    return tuple(recalled_facts.values())


def question(words: Sequence[FactSpan], known_facts: Sequence[RecalledFact]) -> Chat:
    """Return the request that asks a model for the facts in the user's words."""
    lines = (f"{number}. {fact.text}" for number, fact in enumerate(known_facts, 1))
    known_text = "\n".join(("Known already:", *lines, "", "")) if known_facts else ""
    return Chat(
        builtin.messages("remember-facts", message="\n".join(span.words for span in words), known=known_text),
        {"temperature": 0, "max_tokens": 600, "response_format": response_format("facts", _SCHEMA)},
    )


def facts_in(
    text: str,
    words: Sequence[FactSpan],
    unhooked_words: Sequence[FactSpan],
    known_facts: Sequence[RecalledFact],
) -> list[NewFact]:
    """Return the facts in an answer to `question` that the user's ``words`` support; empty if the answer cannot be
    parsed. A hook may have added text to the words, so a fact must also quote the words before the hook.

    A statement of the user that replaces a fact is left out if another fact follows from it.
    """
    try:
        value = unwrapped(_SCHEMA, orjson.loads(text))
    except orjson.JSONDecodeError:
        return []
    supported_facts = [
        fact
        for item in (value if isinstance(value, list) else ())
        if (fact := _fact_in(item, words, known_facts)) is not None
        and find_span(fact.span.words, unhooked_words) is not None
    ]
    new_facts: dict[str, NewFact] = {}
    replaced_ids: set[str] = set()
    for fact in supported_facts:
        if fact.text in new_facts or _is_repeated(fact, supported_facts):
            continue
        new_facts[fact.text] = replace(fact, replaces="") if fact.replaces in replaced_ids else fact
        replaced_ids.add(fact.replaces)
    return list(new_facts.values())[:MAX_FACTS]


def _is_repeated(fact: NewFact, facts: Sequence[NewFact]) -> bool:
    """Return whether a fact is a whole statement of the user from which a second fact follows."""
    return fact.text == fact.span.words and any(
        proven_fact.text != proven_fact.span.words
        and fact.span.start <= proven_fact.span.start
        and proven_fact.span.end <= fact.span.end
        for proven_fact in facts
    )


def _fact_in(item: Any, words: Sequence[FactSpan], known_facts: Sequence[RecalledFact]) -> NewFact | None:
    if not isinstance(item, dict):
        return None
    text, quotation, number = item.get("fact"), item.get("quote"), item.get("replaces")
    if not isinstance(text, str) or not isinstance(quotation, str):
        return None
    text, span = text.strip(), find_span(quotation, words)
    if not text or len(text) > MAX_FACT_CHARS or span is None:
        return None
    support = find_support(text, span, words)
    if support is None:
        return None
    replaced = known_facts[number - 1 : number] if isinstance(number, int) and number > 0 else ()
    return NewFact(*support, replaced[0].id if replaced else "")
