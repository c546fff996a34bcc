"""Drawings (DXF): texts by layout and layer, attributes of blocks such as a title block, tables, and dimensions.

The summary counts the insertions of each block. The texts of a block are read once, and its geometry is skipped.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from portico._installed import how_to_add
from portico_server.features.chunkers.document import NotRead, Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers.csv import ROW_GROUP_CHARS
from portico_server.features.readers.dxf_text import drawing_text, repaired
from portico_server.features.readers.mtext import plain_mtext

_NO_FONTS: Final = Path(__file__).with_name("no_fonts")
"""An empty font list for ezdxf, which would otherwise open every font of the machine on import, although nothing is
rendered.
"""

MAX_NAMES: Final = 500
"""Maximum number of layers, and of blocks, that the first part lists."""

_GENERATED_BLOCK: Final = "*"
"""Prefix of the names of blocks that programs generate, such as hatches."""

_END_BYTES: Final = 1_024
"""Number of bytes at the end of a file in which a complete file contains the end marker."""

_KINDS: Final = ("linear", "aligned", "angular", "diameter", "radius", "angular", "ordinate")
"""Kinds of dimensions. The index is the type number in the file."""

_PROGRAM_DATA: Final = ("ACAD", "ACDB", "ACAEC", "EZDXF")
"""Prefixes of the applications whose extended data is no text for people. ``PE_URL`` is a link that a user added."""

_TEXT_CODE: Final = 1000
_NUMBER_CODES: Final = (1040, 1041, 1042, 1070, 1071)
"""Group codes of texts and numbers in extended data."""


def read(source: SourceDocument) -> Iterator[Part | NotRead]:
    """Yield a summary of the drawing. Then yield, for each layout, the attributes and the texts by layer, in reading
    order, and the same for each inserted block.
    """
    drawing, lost_count = _open(source)
    texts = _DrawingTexts(drawing)
    writer = PartWriter()
    title = str(drawing.header.custom_vars.get("Title", "")).strip()
    top = (title,) if title else ()
    about = [*_properties(drawing), *texts.count_lines]
    yield writer.part(_clean("\n".join(about)), heading=top)
    for name, container in texts.containers():
        sorted_texts = sorted(texts.of(container), key=lambda text: text[0])
        for layer, layer_texts in groupby(sorted_texts, key=lambda text: text[0]):
            heading = (*top, name, layer) if layer else (*top, name)
            lines = [text for _, _, text in sorted(layer_texts, key=lambda text: text[1])]
            for run in _runs(lines):
                yield writer.part(_clean(run), heading=tuple(map(_clean, heading)))
    yield from (NotRead(f"{count:,} {_clean(kind)}") for kind, count in texts.unread.items())
    if lost_count:
        yield NotRead(f"{lost_count:,} insertion(s) of blocks that the file does not contain")


def _open(source: SourceDocument) -> tuple[Any, int]:
    """Return a drawing, and the number of insertions of blocks that it does not contain."""
    if find_spec("ezdxf") is None:
        raise Unreadable(
            f"is a drawing, but the package that reads drawings is not installed: {how_to_add('cad')}",
            "unsupported_file",
        )
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(_NO_FONTS)
    try:
        from ezdxf import audit, recover
        from ezdxf.lldxf.const import DXFError
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
    # The check follows all paths of nested blocks, which takes exponential time. Here, each block is read once.
    audit.BlockCycleDetector.has_cycle = _has_no_cycle  # type: ignore[assignment, method-assign]
    content = drawing_text(source)
    try:
        try:
            drawing, auditor = recover.read(io.BytesIO(content))
        except DXFError:
            drawing, auditor = recover.read(io.BytesIO(repaired(content)))
    except (DXFError, OSError) as error:
        raise Unreadable(
            "is damaged, or not a drawing in DXF. Save it again and add the new file."
        ) from error
    is_whole = b"EOF" in content[-_END_BYTES:]
    if not is_whole and not any(map(len, drawing.layouts)):
        raise Unreadable("is truncated before any drawn content. Add the complete file.")
    lost_codes = (audit.AuditError.UNDEFINED_BLOCK, audit.AuditError.UNDEFINED_BLOCK_NAME)
    return drawing, sum(fix.code in lost_codes for fix in auditor.fixes)


def _has_no_cycle(_detector: object, _block_name: str) -> bool:
    return False


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


class _DrawingTexts:
    """The texts of a drawing: the layouts, and the blocks that are inserted in them, directly or in other blocks."""

    def __init__(self, drawing: Any) -> None:
        self._drawing = drawing
        self._states = {layer.dxf.name.casefold(): _layer_state(layer) for layer in drawing.layers}
        self._titles: dict[str, str] = {}
        """The titles of blocks by their names."""
        self._blocks: dict[str, Any] = {}
        self._insertions = Counter[str]()
        self._layers = Counter({layer.dxf.name: 0 for layer in drawing.layers})
        self.unread = Counter[str]()
        """The number of entities that could not be read by their type."""
        for layout in drawing.layouts:
            self._layers.update(_layer(entity) for entity in layout)
            self._follow(layout)
        pending_blocks = list(self._blocks.values())
        while pending_blocks:
            # Each block is followed once, however often and deeply it is inserted, also in itself.
            pending_blocks += self._follow(pending_blocks.pop())

    @property
    def count_lines(self) -> list[str]:
        layers = Counter({f"{name}{self._state(name)}": count for name, count in self._layers.items()})
        return [*_names("Layers", layers), *_names("Blocks", self._insertions)]

    def containers(self) -> Iterator[tuple[str, Any]]:
        """Yield each layout and each inserted block with the name that its passages have as a heading."""
        yield from ((layout.name, layout) for layout in self._drawing.layouts)
        yield from ((f"Block {self._title(name)}", block) for name, block in self._blocks.items())

    def of(self, container: Any) -> Iterator[tuple[str, tuple[float, float], str]]:
        """Yield the layer, the position in reading order and the text of all entities with text.

        Attributes come first, without a layer unless the layer is hidden. Equal data of many entities is read once.
        """
        seen_data: set[tuple[str, str]] = set()
        for entity in container:
            kind = entity.dxftype()
            try:
                layer = _layer(entity)
                state = self._state(layer)
                entity_text = (
                    self._attributes(entity) if kind == "INSERT" else _label(kind, entity, container)
                )
                if entity_text.strip():
                    text_layer = layer + state if kind != "INSERT" or state else ""
                    yield text_layer, _place(entity), entity_text.strip()
                for text in _extended_data(entity):
                    if (layer, text) not in seen_data:
                        seen_data.add((layer, text))
                        yield layer + state, _place(entity), text
            except Exception:  # noqa: BLE001  # ezdxf raises what it likes, and an entity costs only itself
                self.unread[kind] += 1

    def _follow(self, container: Any) -> list[Any]:
        """Count the blocks that are inserted in a container, and return the new blocks."""
        new_blocks = []
        for entity in container.query("INSERT"):
            name = entity.dxf.get("name", "")
            block = self._drawing.blocks.get(name)
            if block is None:
                continue
            if not (title := self._title(name)).startswith(_GENERATED_BLOCK):
                self._insertions[title] += 1
            if name.casefold() not in self._blocks:
                self._blocks[name.casefold()] = block
                new_blocks.append(block)
        return new_blocks

    def _title(self, name: str) -> str:
        """Return the name of a block, or for a variant of a dynamic block, such as ``*U12``, the name that CAD programs
        show.
        """
        title = self._titles.get(name)
        if title is None:
            block = self._drawing.blocks.get(name)
            title = self._titles[name] = (_dynamic_name(block) if block is not None else "") or (
                block.name if block is not None else name
            )
        return title

    def _state(self, layer: str) -> str:
        return self._states.get(layer.casefold(), "")

    def _attributes(self, block: Any) -> str:
        """Return ``NAME: TAG: value, …`` for a block, or an empty string for a block without values."""
        values = [
            f"{attribute.dxf.tag}: {_line(_text_of(attribute))}"
            for attribute in block.attribs
            if _text_of(attribute).strip()
        ]
        return f"{self._title(block.dxf.name)}\n" + "\n".join(values) if values else ""


def _layer_state(layer: Any) -> str:
    """Return `` (off)`` or `` (frozen)`` for a layer that CAD programs hide."""
    return " (off)" if layer.is_off() else " (frozen)" if layer.is_frozen() else ""


def _layer(entity: Any) -> str:
    return str(entity.graphic_properties().get("layer", "0"))


def _dynamic_name(block: Any) -> str:
    """Return the name of the dynamic block of which a block is a variant, or an empty string."""
    record = block.block_record
    if not block.name.startswith("*") or not record.has_xdata("AcDbBlockRepBTag"):
        return ""
    handles = [tag.value for tag in record.get_xdata("AcDbBlockRepBTag") if tag.code == 1005]
    original = block.doc.entitydb.get(handles[0]) if handles else None
    return str(original.dxf.get("name", "")) if original is not None else ""


def _names(label: str, counts: Counter[str]) -> Iterator[str]:
    if counts:
        name_counts = [f"{name} ({times})" for name, times in counts.most_common(MAX_NAMES)]
        more_text = f", and {len(counts) - MAX_NAMES} more" if len(counts) > MAX_NAMES else ""
        yield f"{label}: {', '.join(name_counts)}{more_text}"


def _label(kind: str, entity: Any, container: Any) -> str:
    match kind:
        case "TEXT":
            return str(entity.plain_text())
        case "MTEXT":
            return plain_mtext(entity.all_columns_raw_content())
        case "ATTDEF":
            # A block shows a definition only if it is constant; a layout shows the tag of each.
            if entity.is_const or container.is_any_layout:
                return f"{entity.dxf.tag}: {_line(_text_of(entity))}"
        case "MULTILEADER" | "MLEADER":
            texts = [entity.get_mtext_content(), *entity.get_block_content().values()]
            return "\n".join(plain_mtext(text) for text in texts if text)
        case "DIMENSION" | "ARC_DIMENSION":
            return _dimension(entity)
        case "ACAD_TABLE":
            return _table(entity)
    return ""


def _text_of(attribute: Any) -> str:
    if attribute.has_embedded_mtext_entity:
        return plain_mtext(attribute.virtual_mtext_entity().text)
    return str(attribute.plain_text())


def _extended_data(entity: Any) -> Iterator[str]:
    """Yield ``APPLICATION: value, …`` for the extended data of each application that contains a text."""
    if not entity.xdata:
        return
    for application, tags in entity.xdata.data.items():
        texts = [_line(tag.value) for tag in tags if tag.code == _TEXT_CODE and tag.value.strip()]
        if not texts or application.upper().startswith(_PROGRAM_DATA):
            continue
        values = [
            _number(float(tag.value)) if tag.code in _NUMBER_CODES else _line(tag.value)
            for tag in tags
            if tag.code in _NUMBER_CODES or (tag.code == _TEXT_CODE and tag.value.strip())
        ]
        yield f"{'Link' if application.upper() == 'PE_URL' else application}: {', '.join(values)}"


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
        value = _line(plain_mtext(written_text.replace("<>", value)))
    return f"Dimension, {name}: {value}" if value else ""


def _table(entity: Any) -> str:
    from ezdxf.entities.acad_table import read_acad_table_content

    rows = read_acad_table_content(entity)
    return "\n".join(" | ".join(_line(plain_mtext(cell)) for cell in row) for row in rows)


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
