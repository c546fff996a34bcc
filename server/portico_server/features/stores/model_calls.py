"""Model calls during indexing, with retries for temporary failures: vectors of texts, descriptions of images, and
transcripts of recordings.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from pathlib import Path

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import (
    DeadlineExceeded,
    EngineFailed,
    PorticoError,
    TooMany,
    Unavailable,
)
from portico_server.core.prompts import builtin
from portico_server.core.registry import Registry
from portico_server.core.request import Chat, ChatReply, Request, Result
from portico_server.features.chunkers.document import Part, PartWriter
from portico_server.features.chunkers.prompts import answer_text
from portico_server.features.readers import ocr
from portico_server.features.readers.formats import is_picture

MAX_ATTEMPTS = 4
"""Maximum number of attempts for a call that fails temporarily."""

FIRST_RETRY_S = 0.5
"""Delay before the first retry, in seconds. It doubles with each further retry."""

MAX_RETRY_S = 30.0
"""Maximum delay before a retry, in seconds, even if the model asks for a longer delay."""

CALL_TIMEOUT_S = 300.0
"""Maximum duration of a call, in seconds. If a model must first be loaded on a machine without a GPU, a call takes
minutes.
"""


async def call_model(
    context: Context, model: str, request: Request, *, timeout_s: float = CALL_TIMEOUT_S
) -> Result:
    """Return the answer of ``model``. Each attempt may take ``timeout_s`` seconds.

    Raises permanent errors of the model immediately, and the last temporary error after `MAX_ATTEMPTS`.
    """
    wait = FIRST_RETRY_S
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            async with asyncio.timeout(timeout_s) as limit:
                result = await context.call(model, request)
            if (usage := getattr(result, "usage", None)) is not None:
                await context.emit(usage)
            return result
        except (EngineFailed, Unavailable, TooMany, DeadlineExceeded) as error:
            if attempt == MAX_ATTEMPTS or error.code == "shutting_down":
                raise
            if isinstance(error, TooMany) and (error.retry_after or 0) > CALL_TIMEOUT_S:
                raise  # a key has reached its daily limit
            await asyncio.sleep(min(error.retry_after or wait, MAX_RETRY_S))
            wait *= 2
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineExceeded(f"'{model}' did not answer within {timeout_s:g} s.") from error
    raise AssertionError("the last attempt returns or raises")


logger = logging.getLogger(__name__)

MAX_PICTURE_BYTES = 20 * 1024 * 1024
"""Maximum size of an image sent to a model, in bytes."""

MAX_DESCRIPTION_TOKENS = 800
"""Maximum length of a description, in tokens."""

_PICTURE_TYPES = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp"))
"""Image types that models accept, by their first bytes."""


class PictureDescriber:
    """Describes images with a model. ``model_name`` is the name of the model, "" for the first shared vision model, or
    ``none`` for no model.

    ``languages`` are the languages for OCR, which is used if no vision model is available.
    """

    def __init__(self, registry: Registry, model_name: str = "", languages: str = "") -> None:
        self._registry = registry
        self._model_name = model_name
        self._languages = languages

    def readable(self) -> bool:
        """Return whether a model or OCR is available to convert images to text."""
        return self.model() is not None or ocr.is_available(self._languages)

    def model(self) -> str | None:
        """Return the name of the model that describes images, if any."""
        if self._model_name == "none":
            return None
        if self._model_name:
            return self._model_name if self._registry.get(self._model_name) is not None else None
        names = sorted(
            servable.card.name
            for servable in self._registry
            if servable.card.owner is None and "vision" in servable.card.capabilities
        )
        return names[0] if names else None

    async def describe(self, path: Path, filename: str, context: Context) -> Part | None:
        """Return the description of an image. Return ``None`` if the file is not an image, or no vision model is
        available.

        Without a vision model, OCR can extract the text of the image.
        """
        if not is_picture(filename) or (model := self.model()) is None:
            return None
        data = await pools.FILES.run(_head, path)
        kind = next((kind for beginning, kind in _PICTURE_TYPES if data.startswith(beginning)), None)
        if kind is None or len(data) > MAX_PICTURE_BYTES:
            return None
        url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        content = [
            {"type": "text", "text": builtin.text("describe-picture", file=filename)},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        chat = Chat(
            ({"role": "user", "content": content},), {"temperature": 0, "max_tokens": MAX_DESCRIPTION_TOKENS}
        )
        try:
            reply = await call_model(context, model, chat)
            if not isinstance(reply, ChatReply):
                raise EngineFailed(f"'{model}' did not return a chat completion.")
        except PorticoError as error:
            if error.code == "shutting_down":
                raise
            logger.warning("'%s' could not describe %s: %s", model, filename, error.message)
            return None
        text = answer_text(reply.content, cut=reply.finish_reason == "length")
        return PartWriter().part(text) if text else None


def _head(path: Path) -> bytes:
    """Return the first bytes of a file, at most one byte more than `MAX_PICTURE_BYTES`."""
    with path.open("rb") as file:
        return file.read(MAX_PICTURE_BYTES + 1)
