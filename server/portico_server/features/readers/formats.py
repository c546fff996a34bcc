"""The table of formats, which assigns a reader and a chunker to each file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.features.chunkers.document import NotRead, Part, SourceDocument, Unreadable

Reader: TypeAlias = Callable[[SourceDocument], Iterator[Part | SourceDocument | NotRead]]
"""A function that yields the parts of a document, and the documents inside it."""

PageDrawer: TypeAlias = Callable[[SourceDocument, int, str], bytes]
"""A function that renders a page, counted from 1, as a PNG with a passage highlighted."""


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A file format. ``module`` contains ``read(source)``, a `Reader`, and is imported only in a worker process.

    The module of a format with pages can contain ``draw_page``, a `PageDrawer`.
    """

    name: str
    module: str
    chunker: str
    suffixes: frozenset[str]
    media_type: str = "text/plain"
    extra: str = ""
    """The extra of Portico that installs the reader's package, or "" if the package is always installed."""

    def reader(self) -> Reader:
        read: Reader = self._import_module().read
        return read

    def drawer(self) -> PageDrawer | None:
        """Return the function that renders a page, or ``None`` for a format without pages."""
        draw: PageDrawer | None = getattr(self._import_module(), "draw_page", None)
        return draw

    def _import_module(self) -> ModuleType:
        try:
            return import_module(f"portico_server.features.readers.{self.module}")
        except ModuleNotFoundError as error:
            if not self.extra:
                raise
            from portico._installed import how_to_add

            raise Unreadable(
                f"has the format {self.name}, but the package that reads it is not installed: "
                f"{how_to_add(self.extra)}",
                "unsupported_file",
            ) from error


def _format(
    name: str, module: str, chunker: str, suffixes: str, media_type: str = "text/plain", extra: str = ""
) -> FileFormat:
    return FileFormat(name, module, chunker, frozenset(suffixes.split()), media_type, extra)


TEXT = _format("text", "text", "sentence", "txt text")
OUTLINE = _format("outline", "outline", "sentence", "rst adoc org tex")

_OFFICE = "application/vnd.openxmlformats-officedocument"

FORMATS = (
    TEXT,
    _format("markdown", "markdown", "markdown", "md markdown mdx mkd qmd rmd", "text/markdown"),
    OUTLINE,
    _format("log", "text", "log", "log"),
    _format("subtitles", "subtitles", "subtitles", "srt vtt"),
    _format("html", "html", "sentence", "html htm xhtml", "text/html"),
    _format("pdf", "pdf", "sentence", "pdf", "application/pdf", "pdf"),
    _format("docx", "docx", "sentence", "docx docm", f"{_OFFICE}.wordprocessingml.document"),
    _format("pptx", "pptx", "slides", "pptx pptm ppsx potx", f"{_OFFICE}.presentationml.presentation"),
    _format("odt", "opendocument", "sentence", "odt ott", "application/vnd.oasis.opendocument.text"),
    _format("odp", "opendocument", "slides", "odp otp", "application/vnd.oasis.opendocument.presentation"),
    _format("sheet", "sheet", "rows", "xlsx xlsm xlsb xls ods", f"{_OFFICE}.spreadsheetml.sheet"),
    _format("csv", "csv", "rows", "csv tsv", "text/csv"),
    _format("notebook", "notebook", "markdown", "ipynb", "application/x-ipynb+json"),
    _format("epub", "epub", "sentence", "epub", "application/epub+zip"),
    _format("mail", "mail", "sentence", "eml mbox", "message/rfc822"),
    _format("archive", "archive", "sentence", "zip tar tgz gz tbz2 bz2 txz xz", "application/zip"),
    _format("image", "ocr", "sentence", "png jpg jpeg gif bmp tif tiff webp", "image/png"),
    _format(
        "recording", "subtitles", "subtitles", "mp3 wav m4a ogg oga opus flac aac mp4 webm", "audio/mpeg"
    ),
    _format("dxf", "dxf", "sentence", "dxf", "image/vnd.dxf"),
    _format("step", "step", "sentence", "step stp p21 ifc", "model/step"),
    _format("xml", "xml", "lines", "xml rss atom opml", "application/xml"),
    _format("json", "whole", "json", "json jsonl ndjson geojson", "application/json"),
    _format("data", "text", "code", "yaml yml toml ini cfg conf properties env"),
    _format("diff", "text", "diff", "diff patch"),
    _format(
        "code",
        "whole",
        "code",
        "py pyi js mjs cjs jsx ts tsx java kt kts scala go rs c h cc cpp cxx hpp hh cs swift m mm rb php pl "
        "pm lua r jl sh bash zsh fish ps1 bat sql graphql proto css scss less vue svelte dart ex exs erl hs ml fs clj "
        "lisp vim cmake gradle tf dockerfile makefile mk",
    ),
)

NO_DOCUMENTS = frozenset(
    {
        *("svg", "eps", "ps", "ai", "xpm", "stl", "obj", "ply"),
        *("lock", "map", "sum", "pem", "key", "crt", "csr", "asc", "sig"),
    }
)
"""Suffixes of text files that contain no text to read, such as drawings, models, lock files and keys."""

_BY_SUFFIX = {suffix: item for item in FORMATS for suffix in item.suffixes}


def format_of(filename: str) -> FileFormat | None:
    """Return the format that a file's name indicates, or ``None`` if the file's bytes must decide whether it is
    text.
    """
    name = filename.rpartition("/")[2].lower()
    _, dot, suffix = name.rpartition(".")
    return _BY_SUFFIX.get(suffix if dot else name)


def is_picture(filename: str) -> bool:
    """Return whether the name of a file is that of an image."""
    form = format_of(filename)
    return form is not None and form.name == "image"


def is_recording(filename: str) -> bool:
    """Return whether the name of a file is that of a recording."""
    form = format_of(filename)
    return form is not None and form.name == "recording"


def is_document(filename: str) -> bool:
    """Return whether the name of a file in a folder or an archive is that of a document to read."""
    name = filename.rpartition("/")[2].lower()
    return name.rpartition(".")[2] not in NO_DOCUMENTS or "." not in name


def older(head: bytes) -> str:
    """Return the kind of a file that must be converted before it can be read, or "" for other files. The first bytes
    decide.
    """
    return next((kind for begin, kind in _OLDER.items() if head.startswith(begin)), "")


_OFFICE_BEFORE_2007 = "an Office document from before 2007"
_RICH_TEXT = "rich text (RTF)"
_DWG = "a drawing in DWG"

_OLDER = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": _OFFICE_BEFORE_2007,
    b"{\\rtf": _RICH_TEXT,
    **{f"AC10{version:02}".encode(): _DWG for version in (*range(1, 10), 12, 14, 15, 18, 21, 24, 27, 32)},
}

CONVERSIONS = {
    _OFFICE_BEFORE_2007: "Save it as .docx or .pptx and add the new file.",
    _RICH_TEXT: "Save it as .docx and add the new file.",
    _DWG: "Save it as .dxf, or install LibreDWG (https://www.gnu.org/software/libredwg/), run 'dwg2dxf FILE.dwg' "
    "and add the new file.",
}
"""For each kind of file that must be converted, what to do."""


MIN_NUL_DISTANCE = 1_000
"""Average number of bytes for each NUL that a text may contain, for example a log with a damaged line."""


def looks_like_text(head: bytes) -> bool:
    """Return whether the first bytes of a file are text: they contain no NUL (except in UTF-16 and UTF-32) and few
    control characters.
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return True
    if head.count(0) > max(1, len(head) // MIN_NUL_DISTANCE):
        return bool(wide_encoding(head))
    control = sum(head.count(byte) for byte in _CONTROL)
    return control <= len(head) // 50


_CONTROL = [bytes([code]) for code in range(32) if code not in (8, 9, 10, 12, 13, 27)]


def wide_encoding(head: bytes) -> str:
    """Return ``utf-16-le`` or ``utf-16-be`` if the bytes appear to be UTF-16 without a byte order mark, otherwise an
    empty string.
    """
    head = head[: len(head) // 2 * 2]
    best = ""
    for encoding in ("utf-16-le", "utf-16-be"):
        try:
            text = head.decode(encoding)
        except UnicodeDecodeError as error:
            if error.start < len(head) - 2:  # a surrogate pair may be split at the end
                continue
            text = head[: error.start].decode(encoding)
        if "\x00" in text or not text:
            continue
        # In the wrong byte order, the decoded characters belong to rare blocks. In the right order, the text
        # has spaces and line breaks, or the full stops and commas of East Asian scripts.
        common = sum(text.count(character) for character in " \n\r\t,.。，、的")
        if common * 100 >= len(text) * 2:
            best = encoding
            break
    return best
