"""The title that a document states of itself: a heading above all others."""

from __future__ import annotations

import re
import zipfile
from pathlib import PurePosixPath

from lxml import etree

MAX_TITLE_CHARS = 200
"""Characters of a title."""

_PROGRAM = re.compile(r"^microsoft (?:office )?(?:word|powerpoint|excel) - ", re.I)
_SUFFIX = re.compile(
    r"\.(?:docx?|docm|dotx?|rtf|odt|pptx?|odp|xlsx?|tex|dvi|ps|eps|indd|qxd|fm|pub|wpd|pdf)$", re.I
)
_NOTHING = re.compile(
    r"(?:untitled|no title|title|unnamed|unknown|none|new|blank|(?:word |new )?document|"
    r"(?:powerpoint )?presentation|slide|unbenannt|sans titre|sin título|无标题|未命名|無題)?[\W\d_]*",
    re.I,
)
"""What programs put there where nobody has said anything."""

_CORE = "docProps/core.xml"
TITLE_ELEMENT = "{http://purl.org/dc/elements/1.1/}title"
"""The element that has the title in the properties of Office documents and OpenDocument."""


def clean_title(text: str | None, name: str = "") -> str:
    """A title as it stands in the properties of a file; empty where it says no more than the ``name`` of the file."""
    title = " ".join((text or "").replace("\x00", " ").split())
    title = _SUFFIX.sub("", _PROGRAM.sub("", title)).strip()
    stem = PurePosixPath(name).stem.casefold()
    return "" if _NOTHING.fullmatch(title) or title.casefold() == stem else title[:MAX_TITLE_CHARS].strip()


def heading_below(title: str, heading: tuple[str, ...]) -> tuple[str, ...]:
    """A path of headings with the title of the document above it, unless it begins with that."""
    if not title or (heading and heading[0].casefold() == title.casefold()):
        return heading
    return (title, *heading)


def office_title(archive: zipfile.ZipFile, name: str) -> str:
    """The title in the properties of an Office document called ``name``."""
    if _CORE not in archive.NameToInfo:
        return ""
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        return clean_title(etree.fromstring(archive.read(_CORE), parser).findtext(TITLE_ELEMENT), name)
    except (zipfile.BadZipFile, etree.XMLSyntaxError, NotImplementedError, RuntimeError, ValueError):
        return ""  # the text is what counts
