"""Drawings (DXF): texts by layout and layer, attributes of blocks such as a title block, tables, and dimensions.

The summary counts the insertions of each block, and the geometry of a block is not repeated.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from portico._installed import how_to_add
from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers.csv import ROW_GROUP_CHARS

_NO_FONTS: Final = Path(__file__).with_name("no_fonts")
"""An empty font list for ezdxf, which would otherwise open every font of the machine on import, although nothing is
rendered.
"""

MAX_NAMES: Final = 500
"""Maximum number of layers, and of blocks, that the first part lists."""

_HIDDEN_BLOCKS: Final = ("*", "_")
"""Prefixes of the names of blocks that programs generate, such as dimensions, hatches and arrows."""

_END_BYTES: Final = 1_024
"""Number of bytes at the end of a file in which a complete file contains the end marker."""

_KINDS: Final = ("linear", "aligned", "angular", "diameter", "radius", "angular", "ordinate")
"""Kinds of dimensions. The index is the type number in the file."""


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield a summary of the drawing. Then yield, for each layout, the attributes and the texts by layer, in reading
    order.
    """
    drawing = _open(source)
    writer = PartWriter()
    about = [*_properties(drawing), *_names("Layers", _layers(drawing)), *_names("Blocks", _blocks(drawing))]
    title = str(drawing.header.custom_vars.get("Title", "")).strip()
    top = (title,) if title else ()
    yield writer.part(_clean("\n".join(about)), heading=top)
    for layout in drawing.layouts:
        sorted_texts = sorted(_texts(layout), key=lambda text: text[0])
        for layer, texts in groupby(sorted_texts, key=lambda text: text[0]):
            heading = (*top, layout.name, layer) if layer else (*top, layout.name)
            lines = [text for _, _, text in sorted(texts, key=lambda text: text[1])]
            for run in _runs(lines):
                yield writer.part(_clean(run), heading=tuple(map(_clean, heading)))


def _open(source: SourceDocument) -> Any:
    if find_spec("ezdxf") is None:
        raise Unreadable(
            f"is a drawing, but the package that reads drawings is not installed: {how_to_add('cad')}",
            "unsupported_file",
        )
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(_NO_FONTS)
    try:
        from ezdxf import recover
        from ezdxf.lldxf.const import DXFError
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
    try:
        with source.open() as file:
            drawing, _ = recover.read(file)
            file.seek(-min(source.size, _END_BYTES), os.SEEK_END)
            is_whole = b"EOF" in file.read()
    except (DXFError, OSError) as error:
        raise Unreadable(
            "is damaged, or not a drawing in DXF. Save it again and add the new file."
        ) from error
    if not is_whole and not any(map(len, drawing.layouts)):
        raise Unreadable("is truncated before any drawn content. Add the complete file.")
    return drawing


def _properties(drawing: Any) -> Iterator[str]:
    from ezdxf import units

    yield f"Drawing in DXF {drawing.acad_release}"
    if drawing.units:
        yield f"Units: {units.unit_name(drawing.units).lower()}"
    low, high = (drawing.header.get(name, (0, 0, 0)) for name in ("$EXTMIN", "$EXTMAX"))
    if high[0] > low[0] and high[1] > low[1]:
        yield f"Size: {_number(high[0] - low[0])} × {_number(high[1] - low[1])}"
    for name, value in drawing.header.custom_vars.properties:
        yield f"{name}: {value}"


def _layers(drawing: Any) -> Counter[str]:
    counts = Counter({layer.dxf.name: 0 for layer in drawing.layers})
    counts.update(_layer(entity) for layout in drawing.layouts for entity in layout)
    return counts


def _layer(entity: Any) -> str:
    return str(entity.graphic_properties().get("layer", "0"))


def _blocks(drawing: Any) -> Counter[str]:
    return Counter(
        entity.dxf.name
        for layout in drawing.layouts
        for entity in layout.query("INSERT")
        if not entity.dxf.name.startswith(_HIDDEN_BLOCKS)
    )


def _names(label: str, counts: Counter[str]) -> Iterator[str]:
    if counts:
        name_counts = [f"{name} ({times})" for name, times in counts.most_common(MAX_NAMES)]
        more_text = f", and {len(counts) - MAX_NAMES} more" if len(counts) > MAX_NAMES else ""
        yield f"{label}: {', '.join(name_counts)}{more_text}"


def _texts(layout: Any) -> Iterator[tuple[str, tuple[float, float], str]]:
    """Yield the layer, the position in reading order and the text of all entities with text. Attributes come first,
    without a layer.
    """
    for entity in layout:
        kind = entity.dxftype()
        if kind == "INSERT":
            entity_text = _attributes(entity)
            layer = ""
        else:
            entity_text = _label(kind, entity)
            layer = _layer(entity)
        if entity_text.strip():
            yield layer, _place(entity), entity_text.strip()


def _label(kind: str, entity: Any) -> str:
    match kind:
        case "TEXT" | "MTEXT":
            return str(entity.plain_text())
        case "MULTILEADER" | "MLEADER":
            from ezdxf.tools.text import fast_plain_mtext

            return str(fast_plain_mtext(entity.get_mtext_content()))
        case "DIMENSION" | "ARC_DIMENSION":
            return _dimension(entity)
        case "ACAD_TABLE":
            return _table(entity)
    return ""


def _attributes(block: Any) -> str:
    """Return ``NAME: TAG: value, …`` for a block, or an empty string for a block without values."""
    values = [
        f"{attribute.dxf.tag}: {_line(_text_of(attribute))}"
        for attribute in block.attribs
        if _text_of(attribute).strip()
    ]
    return f"{block.dxf.name}\n" + "\n".join(values) if values else ""


def _text_of(attribute: Any) -> str:
    text = attribute.plain_mtext() if attribute.has_embedded_mtext_entity else attribute.plain_text()
    return str(text)


def _dimension(entity: Any) -> str:
    kind = entity.dimtype
    name = _KINDS[kind] if kind < len(_KINDS) else "arc"
    written_text = entity.dxf.get("text", "")
    try:
        measurement = entity.get_measurement()
        value = _number(measurement) if isinstance(measurement, float) else ""
    except (TypeError, ValueError, ArithmeticError):
        value = ""
    if written_text.strip() and written_text not in ("<>", " "):
        from ezdxf.tools.text import fast_plain_mtext

        value = _line(str(fast_plain_mtext(written_text)).replace("<>", value))
    return f"Dimension, {name}: {value}" if value else ""


def _table(entity: Any) -> str:
    from ezdxf.entities.acad_table import read_acad_table_content
    from ezdxf.tools.text import fast_plain_mtext

    rows = read_acad_table_content(entity)
    return "\n".join(" | ".join(_line(str(fast_plain_mtext(cell))) for cell in row) for row in rows)


def _place(entity: Any) -> tuple[float, float]:
    """Return the sort key of an entity, which orders entities from top to bottom, then from left to right."""
    for name in ("insert", "text_midpoint", "defpoint"):
        point = entity.dxf.get(name) if entity.dxf.is_supported(name) else None
        if point is not None:
            return -point[1], point[0]
    return 0.0, 0.0


def _runs(lines: Iterable[str]) -> Iterator[str]:
    """Join lines up to the maximum length of a passage."""
    pending_lines: list[str] = []
    width = 0
    for line in lines:
        if pending_lines and width + len(line) > ROW_GROUP_CHARS:
            yield "\n".join(pending_lines)
            pending_lines, width = [], 0
        pending_lines.append(line)
        width += len(line)
    if pending_lines:
        yield "\n".join(pending_lines)


def _line(text: str) -> str:
    return " ".join(text.split())


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _clean(text: str) -> str:
    """Replace bytes that are not valid in the drawing's encoding with question marks."""
    return text.encode("utf-8", "replace").decode()
