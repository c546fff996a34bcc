"""GraphML (http://graphml.graphdrawing.org): passages with their themes, and terms with their kinds, are nodes;
mentions and links are edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from portico.schemas.stores import Theme
from portico_server.db import links
from portico_server.db.hits import HitRow
from portico_server.db.links import LinkRow

MAX_LABEL_CHARS = 120
"""Maximum number of characters of a passage in its label."""


GRAPH_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<key id="type" for="node" attr.name="type" attr.type="string"/>
<key id="label" for="node" attr.name="label" attr.type="string"/>
<key id="file" for="node" attr.name="file" attr.type="string"/>
<key id="theme" for="node" attr.name="theme" attr.type="string"/>
<key id="term_kind" for="node" attr.name="kind" attr.type="string"/>
<key id="kind" for="edge" attr.name="kind" attr.type="string"/>
<key id="weight" for="edge" attr.name="weight" attr.type="int"/>
<graph id="links" edgedefault="undirected">
"""


def graph_elements(
    rows: Sequence[HitRow],
    link_rows: Sequence[LinkRow],
    named_link_rows: dict[int, list[LinkRow]],
    texts: dict[int, str],
    kinds: Mapping[int, str],
    theme_of: Mapping[int, Theme],
) -> list[str]:
    """Return the nodes and edges of passages. The node of a term follows the first passage that mentions the term.

    ``kinds`` are the kinds of names, and ``theme_of`` the themes of passages, as far as they are known.
    """
    parts = [
        f'<node id="c{row.id}"><data key="type">passage</data><data key="label">'
        f'{_plain(row.text[:MAX_LABEL_CHARS])}</data><data key="file">{_plain(row.filename)}</data>'
        f"{_theme(theme_of.get(row.id))}</node>\n"
        for row in rows
    ]
    for link in link_rows:
        holders = named_link_rows.get(link.term, ())
        if len(holders) < 2:
            continue
        if link.chunk_id == min(holder.chunk_id for holder in holders):
            label = _plain(texts.get(link.term, ""))
            kind = kinds.get(link.term, links.KINDS.get(link.kind, "name"))
            parts.append(
                f'<node id="t{link.term}"><data key="type">term</data><data key="label">{label}</data>'
                f'<data key="term_kind">{kind}</data></node>\n'
            )
        parts.append(
            f'<edge source="c{link.chunk_id}" target="{escape(f"t{link.term}")}">'
            f'<data key="kind">{links.KINDS.get(link.kind, "name")}</data>'
            f'<data key="weight">{link.weight}</data></edge>\n'
        )
    return parts


def _theme(theme: Theme | None) -> str:
    return "" if theme is None else f'<data key="theme">{_plain(", ".join(theme.words))}</data>'


def _plain(text: str) -> str:
    """Return a text without control characters, which XML does not allow."""
    return escape(
        "".join(char if char >= " " and char not in "\ufffe\uffff" else " " for char in text), quote=False
    )
