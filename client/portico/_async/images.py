"""Pictures, drawn and changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from portico._async.group import Group
from portico._async.models import Models
from portico._keywords import with_options
from portico._request import given
from portico.errors import InvalidRequest
from portico.images import PICTURE_OPTIONS, ImageSource, Picture, PictureOptions, image_reference, pictures_of
from portico.model_options import flat_options


class Images(Group):
    """Pictures that models make."""

    @with_options(PICTURE_OPTIONS)
    async def draw(
        self,
        prompt: str,
        model: str | None = None,
        *,
        size: str = "auto",
        n: int = 1,
        **options: Unpack[PictureOptions],
    ) -> list[Picture]:
        """Pictures of what ``prompt`` says, by ``model`` or the first that draws.

        ``size`` is ``auto`` or WIDTHxHEIGHT in pixels; ``options`` are OpenAI's (``quality``, ``output_format`` …) and
        those of local models (``seed``, ``steps``, ``negative_prompt``, ``guidance_scale``); what only some
        models know goes into ``extra_body``.
        """
        body = {"model": model or await self._who("image"), "prompt": prompt}
        return await self._pictures("generations", body, size, n, options)

    @with_options(PICTURE_OPTIONS)
    async def edit(
        self,
        images: ImageSource | Sequence[ImageSource],
        prompt: str,
        model: str | None = None,
        *,
        mask: ImageSource | None = None,
        size: str = "auto",
        n: int = 1,
        **options: Unpack[PictureOptions],
    ) -> list[Picture]:
        """Pictures changed as ``prompt`` says, all over or where ``mask`` is transparent.

        A ``Path`` is a file here, a ``str`` the id of an uploaded file or of an artifact.
        """
        several = [images] if isinstance(images, str | Path | bytes) else list(images)
        body = {
            "model": model or await self._who("image_edits"),
            "prompt": prompt,
            "images": [image_reference(image) for image in several],
            **given(mask=None if mask is None else image_reference(mask)),
        }
        return await self._pictures("edits", body, size, n, options)

    async def _pictures(
        self, action: str, body: Mapping[str, Any], size: str, n: int, options: Mapping[str, Any]
    ) -> list[Picture]:
        body = {**body, "size": size, "n": n, **flat_options(options), "response_format": "b64_json"}
        path = f"/v1/images/{action}"
        return pictures_of(await self._transport.request("POST", path, object, json=body, slow=True))

    async def _who(self, capability: str) -> str:
        """``default-image``, or the first model that can. Raises `InvalidRequest` that says how to add one."""
        models = await Models(self._transport).list()
        able = [model.id for model in models if capability in model.capabilities]
        if not able:
            ability = "changes pictures" if capability == "image_edits" else "draws"
            raise InvalidRequest(
                f"No model of this daemon {ability}. Add one, such as: portico models add painter "
                "hf://stable-diffusion-v1-5/stable-diffusion-v1-5 --task image",
                param="model",
            )
        return "default-image" if "default-image" in able else able[0]
