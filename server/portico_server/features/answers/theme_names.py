"""Names of themes, written by a model from the words and the most typical passage of each theme."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from portico.schemas.stores import Theme
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.prompts import builtin
from portico_server.core.request import Chat, ChatReply
from portico_server.core.words import whole_number, without_thought

logger = logging.getLogger(__name__)

NAMING_TIMEOUT_S: Final = 20.0
"""Seconds after which themes have only their words."""

MAX_EXTRACT_CHARS: Final = 240
"""Maximum number of characters of a passage that the model sees."""

MAX_NAME_CHARS: Final = 60
"""Maximum length of a name, in characters; a longer line is assumed to be an explanation."""

MAX_NAME_TOKENS: Final = 24
"""Number of tokens that the model may use for each name."""


async def name_themes(
    themes: Sequence[Theme], question: str, model: str, context: Context
) -> Mapping[int, str]:
    """Return the names of themes by their numbers, from 1, in the language of ``question``.

    One call names all themes. A theme has no name if the model fails, takes too long or names it in another form.
    """
    extracts = "\n".join(
        f"{number}. {', '.join(theme.words)}: {' '.join(theme.example.text.split())[:MAX_EXTRACT_CHARS]}"
        for number, theme in enumerate(themes, 1)
    )
    messages = builtin.messages("name-themes", themes=extracts, question=question)
    options = {"temperature": 0, "max_tokens": MAX_NAME_TOKENS * len(themes)}
    try:
        async with asyncio.timeout(NAMING_TIMEOUT_S) as limit:
            reply = await context.call(model, Chat(messages, options))
    except PorticoError as error:
        logger.info("the themes have only their words: %s", error.message)
        return {}
    except TimeoutError:
        if not limit.expired():
            raise
        return {}
    names: dict[int, str] = {}
    for line in without_thought(reply.content if isinstance(reply, ChatReply) else "").splitlines():
        digits, _, text = line.strip().partition(".")
        number, name = whole_number(digits), text.strip(' *"“”「」')
        if number is not None and number <= len(themes) and 0 < len(name) <= MAX_NAME_CHARS:
            names.setdefault(number, name)
    return names
