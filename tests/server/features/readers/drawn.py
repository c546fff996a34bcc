"""Pictures containing words."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont


def picture(*lines: str, kind: str = "PNG") -> bytes:
    """Return a picture of black words on white."""
    image = Image.new("RGB", (1_200, 120 + 90 * len(lines)), "white")
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((60, 60 + 90 * number), line, fill="black", font=ImageFont.load_default(size=52))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def scan(*pages: str) -> bytes:
    """Return a PDF whose pages are pictures of words."""
    file = io.BytesIO()
    first, *further_images = (Image.open(io.BytesIO(picture(page))) for page in pages)
    first.save(file, "PDF", save_all=True, append_images=further_images)
    return file.getvalue()
