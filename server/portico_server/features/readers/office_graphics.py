"""The texts of charts, of SmartArt diagrams, of buttons and of pictures in cells, which Office documents keep in parts
of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lxml import etree

_A: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_C: Final = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_DGM: Final = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"

_R: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"

_XDR: Final = "{http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing}"
_VML: Final = "{urn:schemas-microsoft-com:vml}"
_CONTROL: Final = "{urn:schemas-microsoft-com:office:excel}ClientData"

_CONTROL_DATA = re.compile(rb'ObjectType="(?!Note")')
"""The data of a control in VML, which is not a note."""

_RICH_VALUES: Final = "XLRICHVALUE"

ALTERNATIVES: Final = "{http://schemas.openxmlformats.org/markup-compatibility/2006}AlternateContent"
"""Element with the forms of one drawing for newer and for older programs, in this order."""

REFERENCES: Final = {f"{_C}chart": f"{_R}id", f"{_DGM}relIds": f"{_R}dm"}
"""Elements that refer to a chart or a diagram, and their attributes with the id of the relationship."""

MAX_POINTS: Final = 1_000
"""Maximum number of values of a series that are read."""


_FILE_NAME = re.compile(r"\.(?:png|jpe?g|gif|bmp|tiff?|emf|wmf|svg)$", re.IGNORECASE)


def remove_fallbacks(root: Any) -> None:
    """Remove the forms of drawings for older programs."""
    for node in list(root.iter(ALTERNATIVES)):
        for fallback in list(node)[1:]:
            node.remove(fallback)


def description_line(text: str | None) -> str:
    """Return what an author wrote about a picture for those who do not see it; "" if it is only the name of a file."""
    line = " ".join((text or "").split())
    return "" if _FILE_NAME.search(line) else line


def graphic_lines(graphic: Any) -> list[str]:
    """Return the texts of the part of the package that contains a chart or the data of a diagram."""
    return _diagram_lines(graphic) if graphic.tag == f"{_DGM}dataModel" else _chart_lines(graphic)


def _chart_lines(chart: Any) -> list[str]:
    """Return the titles of a chart, and a line for each series with its categories and values."""
    lines = [
        "".join(text.text or "" for text in title.iter(f"{_A}t", f"{_C}v"))
        for title in chart.iter(f"{_C}title")
    ]
    for series in chart.iter(f"{_C}ser"):
        name = " ".join(_points(series, "tx").values())
        categories = _points(series, "cat") or _points(series, "xVal")
        values = _points(series, "val") or _points(series, "yVal")
        labels = _labels(series)
        pairs = (
            " ".join(filter(None, (categories.get(place), value, labels.get(place))))
            for place, value in values.items()
        )
        lines.append(f"{name}: {'; '.join(pairs)}" if name else "; ".join(pairs))
    return [line for line in map(str.strip, lines) if line]


def _labels(series: Any) -> dict[str, str]:
    """Return the texts that an author wrote beside points of a series, in parentheses, by their place."""
    labels: dict[str, str] = {}
    for label in series.iterfind(f"{_C}dLbls/{_C}dLbl"):
        place, text = label.find(f"{_C}idx"), "".join(item.text or "" for item in label.iter(f"{_A}t"))
        if place is not None and text.strip():
            labels[place.get("val", "")] = f"({text.strip()})"
    return labels


def _points(series: Any, kind: str) -> dict[str, str]:
    """Return the cached texts of a part of a series, by their place."""
    points: dict[str, str] = {}
    for value in series.iterfind(f"{_C}{kind}//{_C}v"):
        points[value.getparent().get("idx", "0")] = value.text or ""
        if len(points) == MAX_POINTS:
            break
    return points


def _diagram_lines(diagram: Any) -> list[str]:
    """Return the text of each shape of a diagram, in the order of the file."""
    texts = (
        " ".join("".join(text.text or "" for text in line.iter(f"{_A}t")) for line in shape.iter(f"{_A}p"))
        for shape in diagram.iter(f"{_DGM}t")
    )
    return [text for text in map(str.strip, texts) if text]


def undescribed_picture_count(drawing: Any) -> int:
    """Return the number of visible pictures of a sheet's drawing that have no description."""
    properties = (picture.find(f".//{_XDR}cNvPr") for picture in drawing.iter(f"{_XDR}pic"))
    return sum(
        1
        for item in properties
        if item is not None
        and item.get("hidden") not in ("1", "true")
        and not description_line(item.get("descr"))
    )


def caption_lines(vml: bytes) -> Iterator[str]:
    """Yield the captions of buttons, check boxes and other controls of a sheet, which are shapes in VML."""
    if not _CONTROL_DATA.search(vml):
        return
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    drawing = etree.fromstring(vml.replace(b"<br>", b"<br/>"), parser)  # Excel does not close the elements
    for shape in drawing.iter(f"{_VML}shape"):
        control = shape.find(_CONTROL)
        is_hidden = "visibility:hidden" in shape.get("style", "").replace(" ", "")
        if control is None or control.get("ObjectType") == "Note" or is_hidden:
            continue
        for box in shape.iterchildren(f"{_VML}textbox"):
            yield " ".join(" ".join(box.itertext()).split())


def cell_picture_descriptions(metadata: Any, values: Any, structures: Any) -> Mapping[str, str]:
    """Return the descriptions of pictures in cells by the numbers of value metadata (``vm``) that the cells have.

    The arguments are the parts ``metadata.xml``, ``rdrichvalue.xml`` and ``rdrichvaluestructure.xml`` of a workbook.
    """
    keys = {
        str(number): [key.get("n", "") for key in structure]
        for number, structure in enumerate(structures.iterfind("{*}s"))
        if structure.get("t", "").endswith("Image")
    }
    descriptions: dict[str, str] = {}
    for number, value in enumerate(values.iterfind("{*}rv")):
        names = keys.get(value.get("s", ""))
        if names is not None:
            texts = dict(zip(names, (item.text for item in value), strict=False))
            descriptions[str(number)] = description_line(texts.get("Text"))
    kinds = {
        str(number): kind.get("name")
        for number, kind in enumerate(metadata.iterfind("{*}metadataTypes/{*}metadataType"), 1)
    }
    blocks = metadata.iterfind(f"{{*}}futureMetadata[@name='{_RICH_VALUES}']/{{*}}bk")
    references = (block.find(".//{*}rvb") for block in blocks)
    places = {str(n): item.get("i", "") for n, item in enumerate(references) if item is not None}
    pictures: dict[str, str] = {}
    for number, record in enumerate(metadata.iterfind("{*}valueMetadata/{*}bk/{*}rc"), 1):
        place = places.get(record.get("v", ""), "")
        if kinds.get(record.get("t", "")) == _RICH_VALUES and place in descriptions:
            pictures[str(number)] = descriptions[place]
    return pictures
