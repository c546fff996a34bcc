"""A diagram as SVG: boxes in layers with arrows between them, readable on light and dark backgrounds. It is drawn
without a browser.

All measures are in pixels. The layout proceeds from the inside out: each part knows its size, and where arrows enter
and leave it, in the middle of its upper and lower edge. The box or frame of a step has the step's path in
``data-step``, as in the trace of a run: the names of the enclosing steps and the step's own name, without item
numbers.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from html import escape
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.features.flows.drawing.diagram import DiagramNode

CHARACTER_WIDTH: Final = 7.2
"""Width of a character in 12-pixel text; East Asian characters are nearly twice as wide."""

LINE_PIXELS: Final = 17.0
PADDING_PIXELS: Final = 14.0
LAYER_GAP_PIXELS: Final = 30.0
"""Gap between two layers, with space for an arrow."""

NEIGHBOUR_GAP_PIXELS: Final = 22.0
"""Gap between two neighbours."""

MAX_LINE_CHARS: Final = 34
"""Maximum characters per line."""

STYLE: Final = """
svg { background: transparent; color-scheme: light dark; }
text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: #1f2328; }
.name { font-weight: 600; } .what { fill: #59636e; } .note { fill: #59636e; font-size: 11px; }
.box { fill: #ffffff; stroke: #8c959f; } .model { stroke: #0969da; } .person { stroke: #9a6700; }
.frame { fill: #818b981f; stroke: #8c959f; stroke-dasharray: 4 3; } .end { fill: #818b981f; stroke: #8c959f; }
.arrow { fill: none; stroke: #59636e; stroke-width: 1.4; } .head { fill: #59636e; } .back { stroke-dasharray: 4 3; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .what, .note { fill: #9198a1; } .box { fill: #161b22; stroke: #6e7681; }
.model { stroke: #4493f8; } .person { stroke: #d29922; } .arrow { stroke: #9198a1; } .head { fill: #9198a1; }
}
"""

Draw = Callable[[float, float], list[str]]


@dataclass(frozen=True, slots=True)
class _SvgPart:
    """A part whose layout is known. ``draw`` draws the part with its upper left corner at a position."""

    width: float
    height: float
    draw: Draw


def svg(root: DiagramNode) -> str:
    """Return a diagram as SVG, from ``input`` to ``output``."""
    part = _part(root, root.name)
    if root.kind != "agent":
        part = _stack([_end("input"), part, _end("output")])
    margin = 12.0
    width, height = part.width + 2 * margin, part.height + 2 * margin
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{escape(root.name)}">'
    )
    marker = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse"><path class="head" d="M0 0 8 4 0 8z"/></marker></defs>'
    )
    lines = [head, f"<title>{escape(root.name)}</title>", f"<style>{STYLE}</style>", marker]
    return "\n".join([*lines, *part.draw(margin, margin), "</svg>"]) + "\n"


def _part(node: DiagramNode, path: str) -> _SvgPart:
    match node.shape:
        case "leaf":
            return _box(node, path)
        case "chain":
            return _stack([_part(child, f"{path}.{child.name}") for child in node.children])
        case "fan":
            inner = _beside(node, [""] * len(node.children), path)
            return _framed(node, f"{node.name} · {node.kind}", inner, node.detail, path)
        case "choice":
            labels = [*node.labels, *(["no"] if node.passes else [])]
            title = f"{node.name} · {node.kind} on {node.detail}"
            return _framed(node, title, _beside(node, labels, path), "", path)
        case "frame":
            [child] = node.children
            inner = _part(child, f"{path}.{child.name}")
            return _framed(node, f"{node.name} · {node.kind}", inner, node.detail, path)
    svg_part = _layered(node, path)
    return (
        svg_part if node.kind == "agent" else _framed(node, f"{node.name} · {node.kind}", svg_part, "", path)
    )


def _box(node: DiagramNode, path: str) -> _SvgPart:
    name = _short(node.name)
    caption = _short(" · ".join(word for word in (node.kind, node.detail) if word))
    width = max(_measure(name), _measure(caption)) + 2 * PADDING_PIXELS
    height = 2 * LINE_PIXELS + PADDING_PIXELS
    kind = {"llm": "model", "agent": "model", "intent": "model", "approve": "person", "client": "person"}

    def draw(x: float, y: float) -> list[str]:
        middle = x + width / 2
        return [
            f'<rect class="box {kind.get(node.kind, "")}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" rx="7" data-step="{escape(path)}"/>',
            _text(name, middle, y + LINE_PIXELS + 3, "name"),
            _text(caption, middle, y + 2 * LINE_PIXELS + 2, "what"),
        ]

    return _SvgPart(width, height, draw)


def _end(word: str) -> _SvgPart:
    width, height = _measure(word) + 2 * PADDING_PIXELS, LINE_PIXELS + 9

    def draw(x: float, y: float) -> list[str]:
        return [
            f'<rect class="end" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'rx="{height / 2:.1f}"/>',
            _text(word, x + width / 2, y + LINE_PIXELS, "what"),
        ]

    return _SvgPart(width, height, draw)


def _stack(parts: Sequence[_SvgPart]) -> _SvgPart:
    """Stack parts vertically, with an arrow between each pair."""
    width = max(part.width for part in parts)
    height = sum(part.height for part in parts) + LAYER_GAP_PIXELS * (len(parts) - 1)

    def draw(x: float, y: float) -> list[str]:
        lines: list[str] = []
        middle = x + width / 2
        for number, part in enumerate(parts):
            if number:
                lines.append(_line([(middle, y - LAYER_GAP_PIXELS), (middle, y)]))
            lines += part.draw(middle - part.width / 2, y)
            y += part.height + LAYER_GAP_PIXELS
        return lines

    return _SvgPart(width, height, draw)


def _beside(node: DiagramNode, labels: Sequence[str], path: str) -> _SvgPart:
    """Place parts side by side, with an arrow to and from each part. A label without a part stands for a path around
    all parts.
    """
    parts: list[_SvgPart | None] = [_part(child, f"{path}.{child.name}") for child in node.children]
    parts += [None] * (len(labels) - len(parts))
    texts = [_short(label) for label in labels]
    widths = [
        max(part.width if part else 0.0, _measure(text) + PADDING_PIXELS)
        for part, text in zip(parts, texts, strict=True)
    ]
    head = LAYER_GAP_PIXELS + (LINE_PIXELS if any(texts) else 0)
    inner = max((part.height for part in parts if part), default=0.0)
    width = sum(widths) + NEIGHBOUR_GAP_PIXELS * (len(parts) - 1)

    def draw(x: float, y: float) -> list[str]:
        lines: list[str] = []
        top, bottom, left_edge = (x + width / 2, y), (x + width / 2, y + head + inner + LAYER_GAP_PIXELS), x
        for part, text, wide in zip(parts, texts, widths, strict=True):
            middle = left_edge + wide / 2
            turn, begin, under = y + 9, y + head, bottom[1] - 9
            if part is None:
                lines.append(
                    _line(
                        [top, (top[0], turn), (middle, turn), (middle, under), (bottom[0], under)], head=False
                    )
                )
            else:
                lines.append(_line([top, (top[0], turn), (middle, turn), (middle, begin)]))
                lines += part.draw(middle - part.width / 2, begin)
                end = begin + part.height
                lines.append(_line([(middle, end), (middle, under), (bottom[0], under), bottom], head=False))
            if text:
                lines.append(_text(text, middle + 5, turn + LINE_PIXELS, "note", anchor="start"))
            left_edge += wide + NEIGHBOUR_GAP_PIXELS
        return lines

    return _SvgPart(width, head + inner + LAYER_GAP_PIXELS, draw)


def _framed(node: DiagramNode, title: str, inner: _SvgPart, note: str, path: str) -> _SvgPart:
    """Draw a dashed frame around a part, with its title above."""
    title, note = _short(title, 2 * MAX_LINE_CHARS), _short(note)
    wide = _measure(title) + (_measure(note) + PADDING_PIXELS if note else 0)
    side = PADDING_PIXELS * (2 if node.again else 1)
    width = max(inner.width + 2 * side, wide + 2 * PADDING_PIXELS)
    above = LINE_PIXELS + PADDING_PIXELS
    height = above + inner.height + PADDING_PIXELS

    def draw(x: float, y: float) -> list[str]:
        at = (x + (width - inner.width) / 2, y + above)
        middle = x + width / 2
        lines = [
            f'<rect class="frame" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="9" '
            f'data-step="{escape(path)}"/>',
            _text(title, x + 9, y + LINE_PIXELS - 2, "note", anchor="start"),
            _text(note, x + width - 9, y + LINE_PIXELS - 2, "note", anchor="end"),
            _line([(middle, y), (middle, at[1])], head=False),
            *inner.draw(*at),
            _line([(middle, at[1] + inner.height), (middle, y + height)], head=False),
        ]
        if node.again:
            right, low, high = x + width - 9, at[1] + inner.height + 5, at[1] - 5
            lines.append(
                _line([(middle, low), (right, low), (right, high), (middle + 2, high)], extra=" back")
            )
        return lines

    return _SvgPart(width, height, draw)


def _layered(node: DiagramNode, path: str) -> _SvgPart:
    """Draw the boxes of a graph in layers: each box is below all boxes that it waits for. Arrows that cross layers are
    bent.
    """
    parts = {child.name: _part(child, f"{path}.{child.name}") for child in node.children}
    depth: dict[str, int] = {}

    def layer(name: str) -> int:
        # The specification was checked, so the graph has no cycles.
        if name not in depth:
            depth[name] = 1 + max((layer(other_name) for other_name in node.after.get(name, ())), default=-1)
        return depth[name]

    rows: list[list[str]] = []
    for name in parts:
        while len(rows) <= layer(name):
            rows.append([])
        rows[depth[name]].append(name)
    widths = [sum(parts[name].width for name in row) + NEIGHBOUR_GAP_PIXELS * (len(row) - 1) for row in rows]
    heights = [max(parts[name].height for name in row) for row in rows]
    width, between = max(widths), LAYER_GAP_PIXELS * 1.5

    margin = max(part.width for part in parts.values()) / 2 + 20 if len(rows) > 2 else 0.0

    def draw(x: float, y: float) -> list[str]:
        boxes: list[str] = []
        place: dict[str, tuple[float, float, float]] = {}
        for row, wide, high in zip(rows, widths, heights, strict=True):
            left_edge = x + margin + (width - wide) / 2
            for name in row:
                part = parts[name]
                boxes += part.draw(left_edge, y)
                place[name] = (left_edge + part.width / 2, y, y + part.height)
                left_edge += part.width + NEIGHBOUR_GAP_PIXELS
            y += high + between
        arrows = [
            _bent(
                place[other_name], place[name], margin * 4 / 3 if depth[name] - depth[other_name] > 1 else 0.0
            )
            for name, other_names in node.after.items()
            for other_name in sorted(other_names)
        ]
        return arrows + boxes

    return _SvgPart(width + 2 * margin, sum(heights) + between * (len(rows) - 1), draw)


def _bent(source: tuple[float, float, float], target: tuple[float, float, float], offset: float) -> str:
    """Return an arrow between two layers. ``offset`` moves it sideways around the layers in between, which are
    centred.
    """
    (x1, _top, y1), (x2, y2, _bottom) = source, target
    bend = max(18.0, (y2 - y1) / 2)
    path = f"M{x1:.1f} {y1:.1f}C{x1 + offset:.1f} {y1 + bend:.1f} {x2 + offset:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"
    return f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'


def _line(points: Sequence[tuple[float, float]], *, head: bool = True, extra: str = "") -> str:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    end = ' marker-end="url(#head)"' if head else ""
    return f'<path class="arrow{extra}" d="{path}"{end}/>'


def _text(text: str, x: float, y: float, kind: str, *, anchor: str = "middle") -> str:
    if not text:
        return ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _measure(text: str) -> float:
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return CHARACTER_WIDTH * len(text) + 5.5 * wide


def _short(text: str, limit: int = MAX_LINE_CHARS) -> str:
    line = "".join(sign if sign.isprintable() else " " for sign in " ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
