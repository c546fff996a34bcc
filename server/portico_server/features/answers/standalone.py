"""Rewriting of a conversation's last question so that it can be searched without the conversation."""

from __future__ import annotations

import asyncio
import logging

from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.prompts import builtin
from portico_server.core.request import Chat, ChatReply
from portico_server.core.words import without_thought
from portico_server.features.answers.prompt import QUERY_LIMIT, Turns, search_query, text_of
from portico_server.features.answers.relevance import terms

logger = logging.getLogger(__name__)
REWRITE_TIMEOUT_S = 20.0
"""Seconds after which the search uses the words of the conversation instead of a rewritten question."""

SHOWN_MESSAGES = 3
"""Number of earlier turns that the model sees."""

MAX_SHOWN_CHARS = 600
"""Maximum characters of each message that the model sees."""

MAX_QUESTION_CHARS = 400
"""Maximum length of a rewritten question, in characters; a longer text is assumed to be an answer."""


async def standalone_question(turns: Turns, model: str, context: Context) -> str:
    """Return a search query: the last question, rewritten by ``model`` so that it includes what the conversation
    implies.

    Without an earlier conversation, the query is the question itself. If the model fails, takes too long or strays
    from the subject, `prompt.search_query` builds the query from the words of the conversation.
    """
    plain = search_query(turns)
    if not turns.history:
        return plain
    talk = [message for turn in turns.history[-SHOWN_MESSAGES:] for message in turn]
    role_texts = [(str(message.get("role")), text_of(message).strip()[:MAX_SHOWN_CHARS]) for message in talk]
    conversation_text = "\n".join(f"{role}: {text}" for role, text in role_texts if text)
    messages = builtin.messages(
        "standalone-question", conversation=conversation_text, question=turns.question[:QUERY_LIMIT]
    )
    try:
        async with asyncio.timeout(REWRITE_TIMEOUT_S) as limit:
            reply = await context.call(model, Chat(messages, {"temperature": 0, "max_tokens": 128}))
    except PorticoError as error:
        logger.info("the question was not rewritten for the search: %s", error.message)
        return plain
    except TimeoutError:
        if not limit.expired():
            raise
        return plain
    question_text = without_thought(reply.content if isinstance(reply, ChatReply) else "").strip('"“”')
    about = terms(turns.question) | terms(conversation_text)
    if (
        not question_text
        or "\n" in question_text
        or len(question_text) > MAX_QUESTION_CHARS
        or not terms(question_text) & about
    ):
        return plain
    return question_text
