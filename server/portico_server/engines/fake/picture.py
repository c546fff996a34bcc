"""Pictures of a fake model: PNGs of the asked size whose colours follow from the prompt, which stands inside as text.

What an edit makes follows from the images too; of those only the first bytes are read.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import signal
import struct
import time
import zlib
from collections.abc import Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from portico_server.core import media, pools
from portico_server.core.errors import InvalidRequest
from portico_server.engines import serving
from portico_server.engines.fake import mimic
from portico_server.engines.fake.script import Player, Scripted

SIZE: Final = (256, 256)
"""Unless another one is asked for."""


class Painter:
    """The endpoints for pictures over a script: the rule for the prompt says how long it takes and what goes wrong,
    and its content is the prompt as the model has understood it.
    """

    def __init__(self, player: Player) -> None:
        self._player = player

    def mount(self, app: web.Application) -> None:
        app.router.add_post("/v1/images/generations", self.generate)
        app.router.add_post("/v1/images/edits", self.edit)

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """A picture of words."""
        return await self._draw(request, await serving.body_of(request), [], "image_generation")

    async def edit(self, request: web.Request) -> web.StreamResponse:
        """A picture of pictures, which come as a form."""
        fields: dict[str, Any] = {}
        images = []
        form = await request.post()
        for name, value in form.items():
            if isinstance(value, web.FileField):
                images.append(value.file.read())
            else:
                fields[name.removesuffix("[]")] = value
        for name in ("n", "partial_images"):
            if name in fields:
                fields[name] = int(fields[name])
        fields["stream"] = fields.get("stream") in ("true", True)
        return await self._draw(request, fields, images, "image_edit")

    async def _draw(
        self, request: web.Request, body: Mapping[str, Any], images: list[bytes], event: str
    ) -> web.StreamResponse:
        prompt = str(body.get("prompt", ""))
        kind = body.get("output_format") or "png"
        if kind != "png":
            raise InvalidRequest(
                f"'output_format' is '{kind}', but a fake model makes PNG alone.", param="output_format"
            )
        rule = self._player.next(prompt)
        if rule.delay:
            await asyncio.sleep(rule.delay)
        if rule.error is not None:
            error = rule.error
            return serving.failure(error.status, error.message, error.type, error.code, error.retry_after)
        width, height = _size(body, images)
        tokens = len(mimic.words(prompt))
        counted = {"input_tokens": tokens, "output_tokens": width * height // 256}
        counted["total_tokens"] = sum(counted.values())
        usage = {**counted, "input_tokens_details": {"text_tokens": tokens, "image_tokens": 0}}
        told = {"size": f"{width}x{height}", "output_format": "png", "quality": "low", "background": "opaque"}
        count = int(body.get("n") or 1)
        painted = [await pools.MODELS.run(paint, prompt, width, height, images, one) for one in range(count)]
        drawn = [base64.b64encode(one).decode() for one in painted]
        if body.get("stream") is True:
            partials = int(body.get("partial_images") or 0)
            return await _stream(request, rule, drawn[0], partials, event, told, usage)
        if rule.interval:
            await asyncio.sleep(rule.interval * count)
        await _break(rule, 0)
        understood = rule.content[0] if rule.content else prompt
        revised = {"revised_prompt": understood} if understood != prompt else {}
        data = [{"b64_json": one, **revised} for one in drawn]
        return serving.answer({"created": int(time.time()), "data": data, **told, "usage": usage})


def paint(prompt: str, width: int, height: int, images: list[bytes], number: int = 0) -> bytes:
    """The PNG: from one colour at the top to another at the bottom, with a square of a third in the middle."""
    seed = hashlib.sha256(orjson.dumps([prompt, number, [hashlib.sha256(one).hexdigest() for one in images]]))
    top, bottom, middle = (seed.digest()[at : at + 3] for at in (0, 3, 6))
    side = min(width, height) // 2
    left, above = (width - side) // 2, (height - side) // 2
    packer = zlib.compressobj(1)
    rows = bytearray()
    for y in range(height):
        share = y / height
        colour = bytes(round(a + (b - a) * share) for a, b in zip(top, bottom, strict=True))
        inside = side if above <= y < above + side else 0
        row = colour * left + (middle if inside else colour) * side + colour * (width - left - side)
        rows += packer.compress(b"\0" + row)
    rows += packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    words = b"Description\0" + prompt.encode("latin-1", "replace")
    utf8 = b"Prompt\0\0\0\0\0" + prompt.encode()
    chunks = ((b"IHDR", header), (b"tEXt", words), (b"iTXt", utf8), (b"IDAT", bytes(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _size(body: Mapping[str, Any], images: list[bytes]) -> tuple[int, int]:
    asked = media.size_of(str(body.get("size") or "auto"), "size")
    if asked is not None:
        return asked
    first = media.measure_image(images[0]) if images else None
    return (first.width, first.height) if first is not None else SIZE


async def _break(rule: Scripted, number: int) -> None:
    """Die or fall silent, if the rule says so for this point."""
    if rule.crash == number:
        os.kill(os.getpid(), signal.SIGKILL)
    if rule.hang == number:
        await asyncio.get_running_loop().create_future()


async def _stream(
    request: web.Request,
    rule: Scripted,
    drawn: str,
    partials: int,
    event: str,
    told: Mapping[str, Any],
    usage: Mapping[str, Any],
) -> web.StreamResponse:
    """``partials`` events with the picture so far, which here is the picture, then the last one."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    head = {"b64_json": drawn, "created_at": int(time.time()), **told}

    async def send(kind: str, more: Mapping[str, Any]) -> None:
        document = orjson.dumps({"type": kind, **head, **more})
        await response.write(b"event: " + kind.encode() + b"\ndata: " + document + b"\n\n")

    for number in range(partials):
        await _break(rule, number)
        await send(f"{event}.partial_image", {"partial_image_index": number})
        if rule.interval:
            await asyncio.sleep(rule.interval)
    await _break(rule, partials)
    await send(f"{event}.completed", {"usage": usage})
    return response
