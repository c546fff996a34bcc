"""Reads images and scanned pages by text recognition (OCR).

Uses rapidocr if the extra ``ocr`` is installed, otherwise tesseract. The daemon tries a vision model first.
"""

from __future__ import annotations

import io
import math
import os
import re
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from portico._installed import how_to_add
from portico_server.core.dataclass import dataclass
from portico_server.core.line_breaks import WIDE
from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers.columns import TextBox, regions

if TYPE_CHECKING:
    from PIL import Image
    from rapidocr import RapidOCR

LANGUAGES_VARIABLE = "PORTICO_OCR_LANGUAGES"
"""Environment variable that tells a worker the OCR languages, such as ``chi_sim+eng``. If it is empty, OCR is
disabled.
"""

RAPIDOCR_LANGUAGES = frozenset(
    ("chi_sim", "chi_tra", "eng", "jpn", "dan", "deu", "fin", "fra", "ita", "nld", "nor", "por", "spa", "swe")
)
"""Languages that the models in rapidocr's wheel support, as tesseract names them."""

RECOGNISE_TIMEOUT_S = 60.0
"""Maximum time for one image, in seconds."""

_SPACED = re.compile(rf"(?<=[{WIDE}])[ \t]+(?=[{WIDE}])")

MAX_PICTURES = 1_000
"""Maximum number of images in one document."""


@dataclass(slots=True)
class _OcrJob:
    """The state of OCR for the current document."""

    left: int = MAX_PICTURES
    heard: Callable[[], None] | None = None
    allowed_s: float = math.inf
    seconds: float = math.inf
    """Remaining OCR time of the document, in seconds."""
    left_out: int = 0
    first: str = ""
    """The first image that was skipped, such as ``page 7``; "" if it has no name."""
    cut_short: int = 0
    """Number of images of which only a part was read."""


_turn = _OcrJob()


def begin(on_progress: Callable[[], None], seconds: float = math.inf) -> None:
    """Start a document. OCR of all its images may take ``seconds`` in total.

    ``on_progress`` is called after each image to report that the work continues.
    """
    global _turn
    _turn = _OcrJob(MAX_PICTURES, on_progress, seconds, seconds)


def passes_over(subject: str = "") -> bool:
    """Return whether an image, such as ``page 7``, must be skipped because the document's OCR time or its maximum
    number of images is used up, or OCR is not available.

    A skipped image is counted, and the caller need not render it.
    """
    if _turn.left and _turn.seconds > 0 and engine():
        return False
    _turn.left_out += 1
    _turn.first = _turn.first or subject
    return True


def left_out() -> str:
    """Return how many images of the document were skipped or read only in part, and why; "" if there are none."""
    reasons = []
    if _turn.left_out:
        place = f", from {_turn.first} on" if _turn.first else ""
        if not engine():
            reason = how_to_read()
        elif _turn.left:
            reason = (
                f"text recognition has used the {_turn.allowed_s:,g} s allowed per document. Split it, or "
                "raise the setting ocr_timeout."
            )
        else:
            reason = f"only the first {MAX_PICTURES:,} images of a document are recognised. Split it."
        reasons.append(f"{_turn.left_out:,} scanned page(s) or image(s){place}: {reason}")
    if _turn.cut_short:
        reasons.append(
            f"{_turn.cut_short:,} scanned page(s) or image(s) were read in part, because each took longer "
            f"than {min(RECOGNISE_TIMEOUT_S, _turn.allowed_s):g} s."
        )
    return "\n".join(reasons)


def engine() -> Literal["rapidocr", "tesseract", ""]:
    """Return the OCR engine of this process, or an empty string if no engine is available."""
    wanted_languages = {name for name in os.environ.get(LANGUAGES_VARIABLE, "").split("+") if name}
    readable = wanted_languages & RAPIDOCR_LANGUAGES if _has_rapidocr() else set()
    if readable != wanted_languages and wanted_languages & _installed_languages():
        return "tesseract"
    return "rapidocr" if readable else ""


def is_available(languages: str) -> bool:
    """Return whether this installation can recognise text in ``languages``, such as ``chi_sim+eng``."""
    wanted_languages = {name for name in languages.split("+") if name}
    return bool(wanted_languages) and (
        (_has_rapidocr() and bool(wanted_languages & RAPIDOCR_LANGUAGES))
        or shutil.which("tesseract") is not None
    )


def how_to_read() -> str:
    """Return what the operator can do to enable OCR, as the last part of a sentence."""
    if _has_rapidocr() or shutil.which("tesseract"):
        return "to read it, set ocr_languages to languages that the installed OCR supports"
    return f"install OCR to read it: {how_to_add('ocr')}"


def _has_rapidocr() -> bool:
    return find_spec("rapidocr") is not None and find_spec("onnxruntime") is not None


@cache
def _installed_languages() -> frozenset[str]:
    """Return the names of the data installed for tesseract: languages, and ``osd``, which detects the orientation of a
    page.
    """
    program = shutil.which("tesseract")
    if program is None:
        return frozenset()
    try:
        answer = subprocess.run(
            [program, "--list-langs"],
            capture_output=True,
            timeout=RECOGNISE_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(answer.stdout.decode(errors="replace").split())


def recognise(picture: bytes) -> str:
    """Return the text of an image (PNG, JPEG, TIFF, BMP, WebP, PNM), or "" if the image contains no text.

    Call it only if `engine` returns a name. Images after the first `MAX_PICTURES` of a document, or after the
    document's OCR time is used up, are not read. Raises `Unreadable` for a damaged image.
    """
    if passes_over():
        return ""
    _turn.left -= 1
    began = time.monotonic()
    seconds = min(RECOGNISE_TIMEOUT_S, _turn.seconds)
    try:
        if engine() == "rapidocr":
            return read_with_rapidocr(picture, seconds)
        return read_with_tesseract(picture, seconds)
    finally:
        _turn.seconds -= time.monotonic() - began
        if _turn.heard is not None:
            _turn.heard()


def read_with_tesseract(picture: bytes, seconds: float = RECOGNISE_TIMEOUT_S) -> str:
    """Return the text that tesseract recognises, or "" if tesseract fails or takes more than ``seconds``.

    Raises `Unreadable` if tesseract crashes, as it does without enough memory.
    """
    wanted_languages = os.environ.get(LANGUAGES_VARIABLE, "").split("+")
    languages = "+".join(name for name in wanted_languages if name in _installed_languages())
    # If the data for detecting orientation is installed, tesseract detects the orientation of the page first.
    layout = ("--psm", "1") if "osd" in _installed_languages() else ()
    try:
        answer = subprocess.run(
            ["tesseract", "stdin", "stdout", "-l", languages, *layout],
            input=picture,
            capture_output=True,
            timeout=seconds,
            check=True,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )
    except subprocess.CalledProcessError as error:
        if error.returncode < 0:
            raise Unreadable(
                "crashed the text recognition: it may be damaged, or need more memory than the setting "
                "parse_memory_mb allows. Scale it down."
            ) from error
        return ""
    except (OSError, subprocess.SubprocessError):
        return ""
    return tidy(answer.stdout.decode(errors="replace"))


MAX_PAGE_PIXELS = 9_000_000
"""Maximum size in pixels of an image for line recognition: an A4 page at 300 dpi. A larger image is scaled down."""

MAX_SEARCH_PIXELS = 700_000
"""Maximum size in pixels of an image for line detection: an A4 page at 85 dpi. Detection time and memory grow with
the size.
"""

MAX_SEARCH_RATIO = 2.0
"""Maximum factor by which a small image is enlarged for line detection."""

MIN_LINE_SCORE = 0.5
"""Minimum confidence, from 0 to 1, for a recognised line to be kept."""

LINE_BATCH_COUNT = 8
"""Number of lines recognised between checks of the time limit."""


def read_with_rapidocr(picture: bytes, seconds: float = RECOGNISE_TIMEOUT_S) -> str:
    """Return the text that rapidocr recognises within ``seconds``, line by line and column by column.

    Raises `Unreadable` for a damaged image, and `MemoryError`.
    """
    deadline = time.monotonic() + seconds
    texts: list[str] = []
    for page in _pages(picture):
        texts.append(_text_of(page, deadline))
        if time.monotonic() > deadline:
            _turn.cut_short += 1
            break
    return "\n\n".join(filter(None, texts))


@cache
def _models() -> RapidOCR:
    """Return the models of rapidocr's wheel, loaded once per process. They use one thread."""
    # Without this variable, onnxruntime from version 1.29 sends usage telemetry.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import cv2
    import rapidocr

    cv2.setNumThreads(1)
    folder = Path(rapidocr.__file__).parent / "models"
    return rapidocr.RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_vertical_padding": False,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "EngineConfig.onnxruntime.enable_cpu_mem_arena": False,
            # rapidocr does not download models whose paths are given.
            "Det.model_path": str(folder / "PP-OCRv6_det_small.onnx"),
            "Cls.model_path": str(folder / "ch_ppocr_mobile_v2.0_cls_mobile.onnx"),
            "Rec.model_path": str(folder / "PP-OCRv6_rec_small.onnx"),
            "Det.limit_type": "max",
            "Det.limit_side_len": MAX_SEARCH_PIXELS,
            "Rec.rec_batch_num": 1,
        }
    )


def _pages(picture: bytes) -> Iterator[Image.Image]:
    """Yield the pages of a TIFF, or the first image of any other file, upright and on a white background. Raises
    `Unreadable`.
    """
    with _damage_as_unreadable():
        image = check_picture(picture)
        count = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    for number in range(count):
        with _damage_as_unreadable():
            image.seek(number)
            page = _page(image)
            if number == count - 1:
                image.close()  # frees its pixels, of which the page is a copy
        yield page


def check_picture(picture: bytes) -> Image.Image:
    """Open an image, reading only its header. Raises `Unreadable` if the image is damaged or its header states too
    many pixels.
    """
    from PIL import Image

    with _damage_as_unreadable():
        return Image.open(io.BytesIO(picture))


@contextmanager
def _damage_as_unreadable() -> Iterator[None]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        millions = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise Unreadable(f"is an image of more than {millions} million pixels. Scale it down.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Unreadable("is a damaged or truncated image. Download it again.") from error


def _page(image: Image.Image) -> Image.Image:
    """Return the current frame of ``image``, scaled down to at most `MAX_PAGE_PIXELS` pixels."""
    from PIL import ExifTags, Image, ImageOps

    scale = min(1.0, math.sqrt(MAX_PAGE_PIXELS / (image.width * image.height)))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image.draft(None, size)
    page = image.resize(size) if image.size != size and image.mode not in ("1", "P") else image
    if page.has_transparency_data:
        page = page.convert("RGBA")
        page = Image.alpha_composite(Image.new("RGBA", page.size, "white"), page)
    page = page.convert("RGB")
    if page.size != size:
        page = page.resize(size)
    page.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    return ImageOps.exif_transpose(page)


def _text_of(page: Image.Image, deadline: float) -> str:
    """Return the text of a page, which may be upright, rotated or skewed. Stops at the ``deadline``."""
    import numpy as np
    from rapidocr.main import RapidOCRError

    models = _models()
    scale = min(MAX_SEARCH_RATIO, math.sqrt(MAX_SEARCH_PIXELS / (page.width * page.height)))
    smaller = page.resize((max(1, round(page.width * scale)), max(1, round(page.height * scale))))
    try:
        with _lack_of_memory():
            _, search = models.detect_and_crop(_pixels(smaller), {})
            ratio = page.width / smaller.width, page.height / smaller.height
            corners = (np.asarray(search.boxes) * ratio).astype(np.float32)
            strips = models.crop_text_regions(_pixels(page), corners)
            _, sides = models.cls_and_rotate(strips)
    except RapidOCRError:  # no line was found
        return ""
    ahead = _directions(corners)
    is_turned = np.array(["180" in label for label, _score in sides.cls_res or ()])
    # The sum over all lines determines the direction of the page, because a single short line is often
    # misjudged.
    across, down = np.where(is_turned[:, None], -ahead, ahead).sum(axis=0)
    strips = [
        strip if x * across + y * down >= 0 else strip[::-1, ::-1]
        for strip, (x, y) in zip(strips, ahead, strict=True)
    ]
    length = math.hypot(across, down) or 1.0
    turn = (
        np.array([[across, down], [down, -across]]) / length
    )  # turned upright, with y pointing up as in `TextBox`
    lines: list[tuple[TextBox, str]] = []
    for start in range(0, len(strips), LINE_BATCH_COUNT):
        if time.monotonic() > deadline:
            break
        batch = slice(start, start + LINE_BATCH_COUNT)
        with _lack_of_memory():
            result = models.recognize_txt(strips[batch])
        for text, score, points in zip(
            result.txts or (), result.scores, corners[batch] @ turn.T, strict=True
        ):
            if text.strip() and score >= MIN_LINE_SCORE:
                (left_edge, bottom), (right, top) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
                lines.append((TextBox(left_edge, bottom, right, top), text.strip()))
    return _in_order(lines)


def _pixels(page: Image.Image) -> Any:
    """Return an image as rapidocr expects it: rows of blue, green and red values."""
    import numpy as np

    return np.ascontiguousarray(np.asarray(page)[:, :, ::-1])


def _directions(corners: Any) -> Any:
    """Return the reading direction of each line as a vector. If a line's box is so tall that rapidocr turns it to the
    left, the direction is down.
    """
    import numpy as np

    across, down = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]
    width = np.maximum(_lengths(across), _lengths(corners[:, 2] - corners[:, 3])).astype(int)
    height = np.maximum(_lengths(down), _lengths(corners[:, 2] - corners[:, 1])).astype(int)
    return np.where((height >= 1.5 * width)[:, None], down, across)


def _lengths(vectors: Any) -> Any:
    import numpy as np

    return np.linalg.norm(vectors, axis=1)


@contextmanager
def _lack_of_memory() -> Iterator[None]:
    """Raise `MemoryError` when a library reports a lack of memory as an error of its own."""
    try:
        yield
    except Exception as error:
        if "bad_alloc" in str(error) or "Insufficient memory" in str(error):
            raise MemoryError from error
        raise


def _in_order(lines: Sequence[tuple[TextBox, str]]) -> str:
    """Return the text of lines, column by column and from top to bottom, with an empty line at each gap."""
    texts = dict(lines)
    rows: list[list[TextBox]] = []
    for box in sorted(texts, key=lambda text_box: -text_box.bottom - text_box.top):
        if rows and rows[-1][0].is_level_with(box):
            rows[-1].append(box)
        else:
            rows.append([box])
    pieces = [box for row in rows for box in sorted(row, key=lambda text_box: text_box.left)]
    text = ""
    for region in regions(pieces) if pieces else ():
        before: TextBox | None = None
        for box in filter(region.holds, pieces):
            if before is None or before.bottom - box.top > box.height:
                text += "\n\n"
            else:
                text += " " if box.is_level_with(before) else "\n"
            text += texts[box]
            before = box
    return text.strip()


def tidy(text: str) -> str:
    """Remove spaces between Chinese characters, and repeated empty lines, from recognised text."""
    text = _SPACED.sub("", text.replace("\f", ""))
    return re.sub(r"\n\s*\n+", "\n\n", text).strip()


_BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield one part with the text of an image. Raise `Unreadable` if OCR is not available, the image is damaged, or
    it contains no text.
    """
    data = source.read()
    if not data.startswith(_BEGINNINGS):
        raise Unreadable("is not an image although its name says so, or it is truncated.")
    check_picture(data).close()
    if not engine():
        passes_over(source.name)
        raise Unreadable(f"is a picture; {how_to_read()}", "unsupported_file")
    text = recognise(data)
    if not text:
        raise Unreadable(
            "is an image without recognisable text. Deploy a chat model with the capability vision to "
            "describe it.",
            "unsupported_file",
        )
    yield PartWriter().part(text)
