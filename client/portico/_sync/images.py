# Made from portico/_async by scripts/twin: change it there.
"""Pictures in `portico.Client`. What each call sends and reads is in `portico._calls.images`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portico._calls.images import Source, image_draw, image_edit, who_draws
from portico._calls.models import models_list
from portico._sync.group import Group
from portico.images import Picture


class Images(Group):
    """Pictures that models make."""

    def draw(
        self, prompt: str, model: str | None = None, *, size: str = "auto", n: int = 1, **options: Any
    ) -> list[Picture]:
        """Pictures of what ``prompt`` says, by ``model`` or the first that draws.

        ``size`` is ``auto`` or WIDTHxHEIGHT in pixels; ``options`` are OpenAI's (``quality``, ``output_format`` …) and
        those of local models (``seed``, ``steps``, ``negative_prompt``, ``guidance_scale``).
        """
        name = model or self._who("image")
        return self._transport.send(image_draw(prompt, name, size, n, options))

    def edit(
        self,
        images: Source | Sequence[Source],
        prompt: str,
        model: str | None = None,
        *,
        mask: Source | None = None,
        size: str = "auto",
        n: int = 1,
        **options: Any,
    ) -> list[Picture]:
        """Pictures changed as ``prompt`` says, all over or where ``mask`` is transparent.

        A ``Path`` is a file here, a ``str`` the id of an uploaded file or of an artifact.
        """
        name = model or self._who("image_edits")
        return self._transport.send(image_edit(images, prompt, mask, name, size, n, options))

    def _who(self, capability: str) -> str:
        models = self._transport.send(models_list())
        return who_draws(models, capability)
