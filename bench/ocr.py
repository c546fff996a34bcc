"""Text recognition on drawn A4 pages at 200 dpi: rapidocr and tesseract, character errors and seconds.

python bench/ocr.py [--rounds 2] [--json FILE]

Needs DejaVu and Noto CJK (Debian: apt-get install fonts-dejavu-core fonts-noto-cjk) and the extra ``ocr``; tesseract
is included if it is installed. Seconds are processor time, including the engine's processes, after a warm-up page.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ["PORTICO_OCR_LANGUAGES"] = "chi_sim+eng"

import numpy as np
from harness import Report
from PIL import Image, ImageDraw, ImageFont

from portico_server.features.readers import ocr

SERIF = "/usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf"
CJK = "/usr/share/fonts/opentype/noto/NotoSerifCJK-Regular.ttc"
PAGE_SIZE = (1_654, 2_339)
MARGIN_PIXELS = 120
SEED = 7
TIMEOUT_S = 300.0
"""Time limit of a page, in seconds; high, so that a busy machine interrupts no page."""

ENGLISH = (
    "The harbour office opens at six in summer and at seven from October to March.",
    "Boats longer than 14.5 metres report on channel 16 before they pass the mole.",
    "A berth costs 23 crowns a night; electricity is charged by the kilowatt-hour.",
    "Keys for the washrooms (deposit: 10 crowns) are kept by the master, Ms. Ahlgren.",
    "Whoever finds the quay lights out after 22:30 calls +46 31 555 0148 at once.",
    "Ice closed the inner basin for 41 days in 1987, longer than in any year since.",
    "Fuel is sold between the crane and berth 9, where a yellow line is painted.",
    "Dogs stay on a lead; fires, drones and fishing from pontoons B-F are forbidden.",
)
CHINESE = (
    "港务办公室夏季六点开门，十月至次年三月七点开门。",
    "长度超过14.5米的船只在通过防波堤之前用16频道报告。",
    "泊位每晚二十三克朗，电费按千瓦时另行计算。",
    "浴室钥匙由港长保管，押金十克朗，离港时退还。",
    "夜间22:30以后码头灯熄灭，请立即致电值班室。",
    "1987年内港封冻四十一天，此后再没有哪一年更久。",
    "燃油在起重机与九号泊位之间出售，地上画有黄线。",
    "狗须牵绳；浮桥上禁止生火、放飞无人机和钓鱼。",
)
TABLE = (
    ("Berth", "Length", "Depth", "Fee"),
    ("A-01", "12.0 m", "3.2 m", "23.00"),
    ("A-02", "14.5 m", "3.4 m", "27.50"),
    ("B-07", "9.8 m", "2.1 m", "18.00"),
    ("C-11", "31.0 m", "5.6 m", "92.75"),
    ("D-30", "7.5 m", "1.9 m", "14.25"),
)


def main() -> None:
    """Print a row for each page and engine."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    engines: dict[str, Callable[[bytes, float], str]] = {"rapidocr": ocr.read_with_rapidocr}
    if shutil.which("tesseract"):
        engines["tesseract"] = ocr.read_with_tesseract
    report = Report("text recognition, A4 at 200 dpi", ("page", "engine", "wrong %", "seconds"))
    pages = list(draw_pages())
    for engine, read in engines.items():
        read(pages[0][2], TIMEOUT_S)
        for name, expected, picture in pages:
            began = processor_seconds()
            for _ in range(arguments.rounds):
                text = read(picture, TIMEOUT_S)
            seconds = (processor_seconds() - began) / arguments.rounds
            wrong = 100 * error_share(expected, text)
            report.add(page=name, engine=engine, **{"wrong %": round(wrong, 2), "seconds": round(seconds, 2)})
    report.show(arguments.json)


def draw_pages() -> Iterator[tuple[str, str, bytes]]:
    """Yield the name of each page, its text and its image as PNG."""
    english = draw_lines(ENGLISH * 5, SERIF, 30)
    yield "printed English", "".join(ENGLISH * 5), png(english)
    chinese = draw_lines(CHINESE * 5, CJK, 34)
    yield "printed Chinese", "".join(CHINESE * 5), png(chinese)
    yield "English, 3° skew", "".join(ENGLISH * 5), png(skewed(english))
    yield "Chinese, 3° skew", "".join(CHINESE * 5), png(skewed(chinese))
    yield "English, low contrast", "".join(ENGLISH * 5), png(faded(english))
    yield "Chinese, low contrast", "".join(CHINESE * 5), png(faded(chinese))
    yield "English, 7 pt", "".join(ENGLISH * 8), png(draw_lines(ENGLISH * 8, SERIF, 19))
    yield "table with borders", "".join(cell for row in TABLE * 3 for cell in row), png(draw_table())


def draw_lines(lines: Sequence[str], font_file: str, size: int) -> Image.Image:
    """Return a page with black lines on white, from the upper margin down."""
    page = Image.new("L", PAGE_SIZE, 255)
    draw, font = ImageDraw.Draw(page), ImageFont.truetype(font_file, size)
    for number, line in enumerate(lines):
        draw.text((MARGIN_PIXELS, MARGIN_PIXELS + number * size * 1.6), line, fill=0, font=font)
    return page


def draw_table() -> Image.Image:
    """Return a page with the rows of `TABLE` three times, each cell in a box."""
    page = Image.new("L", PAGE_SIZE, 255)
    draw, font = ImageDraw.Draw(page), ImageFont.truetype(SERIF, 30)
    for number, row in enumerate(TABLE * 3):
        for column, cell in enumerate(row):
            left, top = MARGIN_PIXELS + 340 * column, MARGIN_PIXELS + 64 * number
            draw.rectangle((left, top, left + 340, top + 64), outline=0, width=2)
            draw.text((left + 20, top + 12), cell, fill=0, font=font)
    return page


def skewed(page: Image.Image) -> Image.Image:
    """Return the page as if it had been rotated on the scanner."""
    return page.rotate(3, resample=Image.Resampling.BICUBIC, fillcolor=255)


def faded(page: Image.Image) -> Image.Image:
    """Return the page in grey letters on grey paper, with the noise of a poor scanner."""
    grey = np.asarray(page).astype(np.float32) / 255 * 50 + 130
    noise = np.random.default_rng(SEED).normal(0, 12, grey.shape)
    return Image.fromarray(np.clip(grey + noise, 0, 255).astype(np.uint8))


def png(page: Image.Image) -> bytes:
    """Return a page as a PNG file."""
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def error_share(expected: str, text: str) -> float:
    """Return the Levenshtein distance without white space, divided by the number of expected characters."""
    wanted, actual = "".join(expected.split()), "".join(text.split())
    row = list(range(len(actual) + 1))
    for number, letter in enumerate(wanted, 1):
        diagonal, row[0] = row[0], number
        for column, other in enumerate(actual, 1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (letter != other)),
            )
    return row[-1] / len(wanted)


def processor_seconds() -> float:
    """Return the processor time of this process and of the processes that it has waited for."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
