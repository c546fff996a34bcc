"""Reads files with another reader: ``python -m document_features.peers NAME``, with a JSON list of files as input.

Prints a JSON object of the texts by file, without the files whose format the reader does not know.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from document_features.seen import text_of_html

TIMEOUT_S = 60.0


def markitdown() -> Callable[[Path], str]:
    """Return Markdown."""
    from markitdown import MarkItDown

    converter = MarkItDown(enable_plugins=False)
    return lambda file: text_of_html(converter.convert(file).text_content)


def pandoc() -> Callable[[Path], str]:
    """Return the text of HTML, in which tables keep their rows."""
    names = {"md": "markdown", "ipynb": "ipynb"}

    def read(file: Path) -> str:
        name = names.get(file.suffix[1:], file.suffix[1:])
        command = ["pandoc", f"--from={name}", "--to=html", "--mathml", str(file)]
        return text_of_html(
            subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S).stdout.decode()
        )

    return read


def mammoth() -> Callable[[Path], str]:
    """Return the text of HTML."""
    import mammoth as library

    def read(file: Path) -> str:
        with file.open("rb") as opened:
            return text_of_html(library.convert_to_html(opened).value)

    return read


def docx2python() -> Callable[[Path], str]:
    """Return a line for each paragraph, or for each row of a table, and the notes and comments below."""
    from docx2python import docx2python as convert

    def read(file: Path) -> str:
        with convert(file) as document:
            parts = (document.body, document.footnotes, document.endnotes, document.header, document.footer)
            lines = [line for part in parts for table in part for line in _rows(table)]
            return "\n".join([*lines, *(str(comment[-1]) for comment in document.comments)])

    return read


def _rows(table: Any) -> Iterable[str]:
    for row in table:
        if len(row) == 1:
            yield from row[0]
        else:
            yield " | ".join(" ".join(cell) for cell in row)


def kreuzberg() -> Callable[[Path], str]:
    """Return Markdown."""
    from kreuzberg import extract_file_sync

    return lambda file: text_of_html(extract_file_sync(str(file)).content)


def docling() -> Callable[[Path], str]:
    """Return Markdown. The converter of PDFs needs PyTorch and models; the other formats have their own modules."""
    from docling.datamodel.base_models import InputFormat
    from docling.datamodel.document import InputDocument

    def read(file: Path) -> str:
        module, name = DOCLING_BACKENDS[file.suffix[1:]]
        backend = getattr(importlib.import_module(f"docling.backend.{module}"), name)
        form = InputFormat("email" if file.suffix == ".eml" else file.suffix[1:])
        document = InputDocument(path_or_stream=file, format=form, backend=backend, filename=file.name)
        return text_of_html(backend(document, file).convert().export_to_markdown())

    return read


DOCLING_BACKENDS = {
    "docx": ("msword_backend", "MsWordDocumentBackend"),
    "pptx": ("mspowerpoint_backend", "MsPowerpointDocumentBackend"),
    "xlsx": ("msexcel_backend", "MsExcelDocumentBackend"),
    "odt": ("opendocument_backend", "OdtDocumentBackend"),
    "ods": ("opendocument_backend", "OdsDocumentBackend"),
    "html": ("html_backend", "HTMLDocumentBackend"),
    "epub": ("epub_backend", "EpubDocumentBackend"),
    "eml": ("email_backend", "EmailDocumentBackend"),
    "csv": ("csv_backend", "CsvDocumentBackend"),
    "md": ("md_backend", "MarkdownDocumentBackend"),
    "vtt": ("webvtt_backend", "WebVTTDocumentBackend"),
}
READERS: dict[str, tuple[Callable[[], Callable[[Path], str]], str]] = {
    "markitdown": (markitdown, "docx pptx xlsx pdf html epub csv ipynb md"),
    "pandoc": (pandoc, "docx odt epub html ipynb md csv"),
    "mammoth": (mammoth, "docx"),
    "docx2python": (docx2python, "docx"),
    "kreuzberg": (kreuzberg, "docx odt pptx xlsx ods pdf html epub eml md csv ipynb"),
    "docling": (docling, " ".join(DOCLING_BACKENDS)),
}
"""Ways to read by the name of the package, and the formats that it reads."""


def main() -> None:
    """Print the texts. A file that the reader refuses has none."""
    make, formats = READERS[sys.argv[1]]
    files = [Path(name) for name in json.load(sys.stdin)]
    read = make()
    texts = {}
    for file in files:
        if file.suffix[1:] in formats.split():
            try:
                texts[str(file)] = read(file)
            except Exception as error:  # noqa: BLE001  # each library has its own
                print(f"{file}: {error!r}"[:300], file=sys.stderr)
                texts[str(file)] = ""
    print(json.dumps(texts))


if __name__ == "__main__":
    main()
