"""Features of text documents: flat OpenDocument files, which LibreOffice saves as Word and OpenDocument files."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from document_features.case import RED_SQUARE, Case, Feature, convert_with_libreoffice

SPACES = {
    "office": "urn:oasis:names:tc:opendocument:xmlns:office:1.0",
    "style": "urn:oasis:names:tc:opendocument:xmlns:style:1.0",
    "text": "urn:oasis:names:tc:opendocument:xmlns:text:1.0",
    "table": "urn:oasis:names:tc:opendocument:xmlns:table:1.0",
    "draw": "urn:oasis:names:tc:opendocument:xmlns:drawing:1.0",
    "fo": "urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0",
    "svg": "urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0",
    "xlink": "http://www.w3.org/1999/xlink",
    "dc": "http://purl.org/dc/elements/1.1/",
    "meta": "urn:oasis:names:tc:opendocument:xmlns:meta:1.0",
    "form": "urn:oasis:names:tc:opendocument:xmlns:form:1.0",
    "number": "urn:oasis:names:tc:opendocument:xmlns:datastyle:1.0",
    "chart": "urn:oasis:names:tc:opendocument:xmlns:chart:1.0",
    "of": "urn:oasis:names:tc:opendocument:xmlns:of:1.2",
    "math": "http://www.w3.org/1998/Math/MathML",
    "loext": "urn:org:documentfoundation:names:experimental:office:xmlns:loext:1.0",
}
"""Addresses of the namespaces of OpenDocument, by their usual prefixes."""

NAMESPACES = " ".join(f'xmlns:{prefix}="{space}"' for prefix, space in SPACES.items())
_STYLES = """
<style:style style:name="Hidden" style:family="text"><style:text-properties text:display="none"/></style:style>
<style:style style:name="Bold" style:family="text"><style:text-properties fo:font-weight="bold"/></style:style>
<style:style style:name="Raised" style:family="text"><style:text-properties style:text-position="super 58%"/></style:style>
<style:style style:name="Struck" style:family="text">
  <style:text-properties style:text-line-through-style="solid" style:text-line-through-type="single"/></style:style>
<style:style style:name="Capitals" style:family="text"><style:text-properties fo:text-transform="uppercase"/></style:style>
<style:style style:name="Small" style:family="text"><style:text-properties fo:font-variant="small-caps"/></style:style>
<style:style style:name="Above" style:family="ruby"><style:ruby-properties style:ruby-position="above"/></style:style>
<style:style style:name="Columns" style:family="section"><style:section-properties>
  <style:columns fo:column-count="2" fo:column-gap="0.5cm"/></style:section-properties></style:style>
<style:style style:name="NewPage" style:family="paragraph"><style:paragraph-properties fo:break-before="page"/></style:style>
<style:style style:name="Frame" style:family="graphic"><style:graphic-properties style:wrap="none"/></style:style>
<text:list-style style:name="Numbers">
  <text:list-level-style-number text:level="1" style:num-format="1" style:num-suffix="."/>
  <text:list-level-style-number text:level="2" style:num-format="a" style:num-suffix=")"/></text:list-style>
<text:list-style style:name="Bullets"><text:list-level-style-bullet text:level="1" text:bullet-char="•"/></text:list-style>
"""
_PAGE = """<office:master-styles><style:master-page style:name="Standard" style:page-layout-name="Layout">{}
</style:master-page></office:master-styles>"""


def flat_text(body: str, *, page: str = "", styles: str = "") -> str:
    """Return a flat text document with this body. ``page`` are the header and footer of its pages."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document {NAMESPACES} office:version="1.3" '
        'office:mimetype="application/vnd.oasis.opendocument.text">'
        "<office:styles/><office:automatic-styles>"
        f'<style:page-layout style:name="Layout"><style:header-style/><style:footer-style/></style:page-layout>{_STYLES}'
        f"{styles}</office:automatic-styles>{_PAGE.format(page)}"
        f"<office:body><office:text>{body}</office:text></office:body></office:document>"
    )


def _p(text: str, style: str = "Standard") -> str:
    return f'<text:p text:style-name="{style}">{text}</text:p>'


def _heading(text: str, level: int = 1) -> str:
    return f'<text:h text:outline-level="{level}">{text}</text:h>'


def _between(*paragraphs: str) -> str:
    """Return a heading, a paragraph, the given ones, and a last paragraph."""
    return f"{_heading('Harbour rules')}{_p('The mole is closed.')}{''.join(paragraphs)}{_p('Boats leave at dawn.')}"


def _table(*rows: str) -> str:
    return f'<table:table table:name="T"><table:table-column table:number-columns-repeated="3"/>{"".join(rows)}</table:table>'


def _row(*cells: str) -> str:
    return f"<table:table-row>{''.join(cells)}</table:table-row>"


def _cell(text: str, attributes: str = "") -> str:
    content = text if text.startswith("<") else _p(text)
    return f'<table:table-cell office:value-type="string"{attributes}>{content}</table:table-cell>'


_COVERED = "<table:covered-table-cell/>"


def _note(kind: str, text: str) -> str:
    return (
        f'<text:note text:id="n" text:note-class="{kind}"><text:note-citation>1</text:note-citation>'
        f"<text:note-body>{_p(text)}</text:note-body></text:note>"
    )


def _box(content: str, anchor: str = "paragraph") -> str:
    return (
        f'<draw:frame draw:style-name="Frame" text:anchor-type="{anchor}" svg:width="6cm" svg:height="2cm">'
        f"<draw:text-box>{content}</draw:text-box></draw:frame>"
    )


def _picture(description: str = "", title: str = "") -> str:
    described = (f"<svg:title>{title}</svg:title>" if title else "") + (
        f"<svg:desc>{description}</svg:desc>" if description else ""
    )
    return (
        '<draw:frame draw:name="P" text:anchor-type="as-char" svg:width="1cm" svg:height="1cm">'
        f"<draw:image><office:binary-data>{base64.b64encode(RED_SQUARE).decode()}</office:binary-data></draw:image>{described}</draw:frame>"
    )


def _shape(kind: str, text: str) -> str:
    return (
        f'<draw:{kind} text:anchor-type="paragraph" svg:width="5cm" svg:height="2cm" svg:x="1cm" svg:y="1cm">'
        f"{_p(text)}</draw:{kind}>"
    )


def _changes(*regions: str) -> str:
    return f"<text:tracked-changes>{''.join(regions)}</text:tracked-changes>"


_BY = "<office:change-info><dc:creator>Ahlgren</dc:creator><dc:date>2026-03-01T10:00:00</dc:date></office:change-info>"
_INSERTED = f'<text:changed-region text:id="i1"><text:insertion>{_BY}</text:insertion></text:changed-region>'
_DELETED = f'<text:changed-region text:id="d1"><text:deletion>{_BY}{_p("ninety ")}</text:deletion></text:changed-region>'
_START, _END = "The mole is closed.", "Boats leave at dawn."
_LIST = '<text:list text:style-name="{}">{}</text:list>'


def _item(text: str, inner: str = "") -> str:
    return f"<text:list-item>{_p(text)}{inner}</text:list-item>"


_FEATURES: dict[Feature, str] = {
    Feature("a bold word", (_START, "The harbour master decides", _END)): _between(
        _p('The <text:span text:style-name="Bold">harbour</text:span> master decides.')
    ),
    Feature("half of a word bold", (_START, "unmoored", _END), hidden=("un moored",)): _between(
        _p('Ships are un<text:span text:style-name="Bold">moored</text:span> here.')
    ),
    Feature(
        "headings of three levels", ("Harbour rules", "Berths", "Fees of berths", "crowns", _END)
    ): _between(_heading("Berths", 2), _heading("Fees of berths", 3), _p("They cost 23 crowns.")),
    Feature("tabs in a line", (_START, "Berth A-01", "12.0 m", _END), (("A-01", "12.0 m"),)): _between(
        _p("Berth A-01<text:tab/>12.0 m")
    ),
    Feature("several spaces", (_START, "red", "lantern", _END), hidden=("redlantern",)): _between(
        _p('A red<text:s text:c="4"/>lantern')
    ),
    Feature("a line break", (_START, "Quay 4", "22100 Lund", _END), hidden=("422100",)): _between(
        _p("Quay 4<text:line-break/>22100 Lund")
    ),
    Feature("a footnote", (_START, "crane", "inspected yearly", _END), hidden=("crane1",)): _between(
        _p(f"The crane{_note('footnote', 'It is inspected yearly.')} lifts boats.")
    ),
    Feature("an endnote", (_START, "slipway", "built in 1911"), hidden=("slipway1",)): _between(
        _p(f"The slipway{_note('endnote', 'It was built in 1911.')} is steep.")
    ),
    Feature("two footnotes in a paragraph", (_START, "gravel", "granite", _END)): _between(
        _p(f"One{_note('footnote', 'of gravel')} and two{_note('footnote', 'of granite')} quays.")
    ),
    Feature("a footnote in a table", ("Berth", "A-01", "lit at night", _END)): _between(
        _table(
            _row(_cell("Berth"), _cell("Fee")),
            _row(_cell(_p(f"A-01{_note('footnote', 'lit at night')}")), _cell("23")),
        )
    ),
    Feature("a comment", (_START, "The winch is old", "replace it in May")): _between(
        _p(
            "The winch<office:annotation><dc:creator>Ahlgren</dc:creator><dc:date>2026-03-01T10:00:00</dc:date>"
            f"{_p('replace it in May')}</office:annotation> is old."
        )
    ),
    Feature("inserted text", (_START, "costs forty crowns a night", _END)): _changes(_INSERTED)
    + _between(
        _p(
            'It costs <text:change-start text:change-id="i1"/>forty crowns<text:change-end text:change-id="i1"/> a night.'
        )
    ),
    Feature("deleted text", (_START, "costs crowns", _END), hidden=("ninety",)): _changes(_DELETED)
    + _between(_p('It costs <text:change text:change-id="d1"/>crowns.')),
    Feature("an inserted paragraph", (_START, "Dogs stay on a lead", _END)): _changes(_INSERTED)
    + _between(
        '<text:change-start text:change-id="i1"/>'
        + _p("Dogs stay on a lead.")
        + '<text:change-end text:change-id="i1"/>'
    ),
    Feature("hidden text", (_START, "Visible lantern", _END), hidden=("secret",)): _between(
        _p('Visible <text:span text:style-name="Hidden">secret </text:span>lantern')
    ),
    Feature("a hidden section", (_START, _END), hidden=("smuggler",)): _between(
        f'<text:section text:name="S" text:display="none">{_p("A smuggler lives here.")}</text:section>'
    ),
    Feature("a section in two columns", (_START, "pilot boat", "tug boat", _END)): _between(
        f'<text:section text:name="S" text:style-name="Columns">{_p("A pilot boat waits.")}{_p("A tug boat waits.")}'
        "</text:section>"
    ),
    Feature("a text box", (_START, "anchor", "sluice opens at noon")): _between(
        _p(f"An anchor{_box(_p('The sluice opens at noon.'))} is shown.")
    ),
    Feature("a text box in the line", (_START, "ballast", _END)): _between(
        _p(f"Before {_box(_p('ballast'), 'as-char')} after.")
    ),
    Feature("a rectangle with text", (_START, "keel")): _between(_p(f"Look:{_shape('rect', 'keel')}")),
    Feature("an ellipse with text", (_START, "rudder")): _between(_p(f"Look:{_shape('ellipse', 'rudder')}")),
    Feature("grouped shapes with text", (_START, "bow", "stern")): _between(
        _p(
            f'Look:<draw:g text:anchor-type="paragraph">{_shape("rect", "bow")}{_shape("rect", "stern")}</draw:g>'
        )
    ),
    Feature("a picture with alternative text", (_START, "lighthouse on a rock", _END)): _between(
        _p(f"See {_picture('A lighthouse on a rock')} here.")
    ),
    Feature("a caption", (_START, "Figure 3", "The old crane", _END)): _between(
        _p(_box(_p(f"{_picture()}Figure 3: The old crane")))
    ),
    Feature("a hyperlink", (_START, "tide tables", _END)): _between(
        _p('See the <text:a xlink:type="simple" xlink:href="https://example.org/x">tide tables</text:a>.')
    ),
    Feature("a linked part of a word", (_START, "waterline", _END), hidden=("water line",)): _between(
        _p('The water<text:a xlink:type="simple" xlink:href="https://example.org/x">line</text:a> rises.')
    ),
    Feature("a bookmark and a reference", (_START, "Rule seven", "see Rule seven above", _END)): _between(
        _p('<text:bookmark-start text:name="b"/>Rule seven<text:bookmark-end text:name="b"/> holds.'),
        _p(
            'Please see <text:bookmark-ref text:reference-format="text" text:ref-name="b">Rule seven</text:bookmark-ref> above.'
        ),
    ),
    Feature("a variable", (_START, "The fee is 47 crowns", _END)): (
        '<text:variable-decls><text:variable-decl office:value-type="string" text:name="v"/></text:variable-decls>'
        + _between(
            _p(
                'The fee is <text:variable-set text:name="v" office:value-type="string" office:string-value="47">47</text:variable-set> crowns.'
            )
        )
    ),
    Feature("a placeholder", (_START, "<Name of boat>", _END)): _between(
        _p('Boat: <text:placeholder text:placeholder-type="text">&lt;Name of boat&gt;</text:placeholder>.')
    ),
    Feature("a numbered list", (_START, "Report to the office", "Pay the fee", _END)): _between(
        _LIST.format("Numbers", _item("Report to the office") + _item("Pay the fee"))
    ),
    Feature("a nested list", (_START, "Ropes", "hemp", "nylon", "Fenders", _END)): _between(
        _LIST.format(
            "Bullets",
            _item("Ropes", _LIST.format("Bullets", _item("hemp") + _item("nylon"))) + _item("Fenders"),
        )
    ),
    Feature("a list in a cell", ("Berth", "hose", "socket", _END)): _between(
        _table(_row(_cell("Berth"), _cell(_LIST.format("Bullets", _item("hose") + _item("socket")))))
    ),
    Feature(
        "a table",
        (_START, "Berth", "Fee", "A-01", "23", "B-07", "18", _END),
        (("A-01", "23"), ("B-07", "18")),
    ): _between(
        _table(
            _row(_cell("Berth"), _cell("Fee")),
            _row(_cell("A-01"), _cell("23")),
            _row(_cell("B-07"), _cell("18")),
        )
    ),
    Feature("a table with a header row", ("Berth", "Fee", "A-01", "23"), (("A-01", "23"),)): _between(
        _table(
            f"<table:table-header-rows>{_row(_cell('Berth'), _cell('Fee'))}</table:table-header-rows>",
            _row(_cell("A-01"), _cell("23")),
        )
    ),
    Feature(
        "a cell over two rows", ("Pontoon", "North", "A-01", "A-02"), (("North", "A-01"), ("North", "A-02"))
    ): _between(
        _table(
            _row(_cell("Pontoon"), _cell("Berth")),
            _row(_cell("North", ' table:number-rows-spanned="2"'), _cell("A-01")),
            _row(_COVERED, _cell("A-02")),
        )
    ),
    Feature("a cell over two columns", ("Summer", "June", "July", "31", "32"), (("31", "32"),)): _between(
        _table(
            _row(_cell("Summer", ' table:number-columns-spanned="2"'), _COVERED),
            _row(_cell("June"), _cell("July")),
            _row(_cell("31"), _cell("32")),
        )
    ),
    Feature("a table in a cell", ("Outer", "inner berth", "inner fee", _END)): _between(
        _table(_row(_cell("Outer"), _cell(_table(_row(_cell("inner berth"), _cell("inner fee"))))))
    ),
    Feature(
        "two paragraphs in a cell", ("Berth", "lit", "guarded"), (("A-01", "lit"),), ("litguarded",)
    ): _between(
        _table(_row(_cell("Berth"), _cell("Notes")), _row(_cell("A-01"), _cell(_p("lit") + _p("guarded"))))
    ),
    Feature("an empty first cell", ("Fee", "23"), (("A-02", "28"),)): _between(
        _table(
            _row(_cell("Berth"), _cell("Fee")),
            _row(_cell(" "), _cell("23")),
            _row(_cell("A-02"), _cell("28")),
        )
    ),
    Feature("a header and a footer", (_START, _END, "Harbour handbook", "Edition of March")): _between(
        _p("Text.")
    ),
    Feature(
        "ruby above a word", (_START, "図書館", "としょかん", _END), hidden=("図書館としょかん",)
    ): _between(
        _p(
            '<text:ruby text:style-name="Above"><text:ruby-base>図書館</text:ruby-base><text:ruby-text>としょかん</text:ruby-text></text:ruby>へ'
        )
    ),
    Feature("superscripts", (_START, "an area of 40 m²")): _between(_p("It has an area of 40 m².")),
    Feature("a raised number", (_START, "crowns", _END), hidden=("crowns7",)): _between(
        _p('It costs crowns <text:span text:style-name="Raised">7</text:span>.')
    ),
    Feature("struck text", (_START, "closed on Monday", _END)): _between(
        _p('The office is <text:span text:style-name="Struck">closed on Monday</text:span>.')
    ),
    Feature(
        "a soft hyphen", (_START, "harbourmaster", _END), hidden=("harbour master", "harbour-master")
    ): _between(_p("The harbour\u00admaster decides.")),
    Feature("a fixed hyphen", (_START, "A\u201101", _END)): _between(_p("Berth A\u201101 is free.")),
    Feature("a no-break space", (_START, "12 knots", _END), hidden=("12knots",)): _between(
        _p("It makes 12\u00a0knots.")
    ),
    Feature(
        "letters of one word in spans", (_START, "Windlass", _END), hidden=("Wind lass", "W indlass")
    ): _between(
        _p(
            "".join(
                f'<text:span text:style-name="{style}">{part}</text:span>'
                for style, part in (("Bold", "W"), ("Small", "ind"), ("Bold", "lass"))
            )
        )
    ),
    Feature("an emoji and signs", (_START, "⚓ 🚢 ½ €", _END)): _between(_p("Signs: ⚓ 🚢 ½ €")),
    Feature("Arabic text", (_START, "ميناء", _END)): _between(_p("ميناء")),
    Feature("Chinese text", (_START, "泊位每晚二十三克朗", _END)): _between(_p("泊位每晚二十三克朗。")),
    Feature("a page break", (_START, "second page", _END)): _between(_p("The second page.", "NewPage")),
    Feature("an index of headings", ("Contents", "Fees", "Keys")): _between(
        '<text:table-of-content text:name="C"><text:table-of-content-source text:outline-level="3"/><text:index-body>'
        f'<text:index-title text:name="I">{_p("Contents")}</text:index-title>{_p("Fees<text:tab/>4")}{_p("Keys<text:tab/>9")}'
        "</text:index-body></text:table-of-content>"
    ),
    Feature(
        "an entry for the index", (_START, "The bollard holds", _END), hidden=("mooring post",)
    ): _between(_p('The <text:alphabetical-index-mark text:string-value="mooring post"/>bollard holds.')),
    Feature("a citation", (_START, "closed it [Ahl87]", _END)): _between(
        _p(
            'Ice closed it <text:bibliography-mark text:identifier="Ahl87" text:bibliography-type="book">[Ahl87]</text:bibliography-mark>.'
        )
    ),
    Feature("a field of a drop-down list", (_START, "Pontoon North", _END)): _between(
        _p(
            'Pontoon <text:drop-down text:name="d"><text:label text:value="South"/><text:label text:value="North" text:current-selected="true"/>North</text:drop-down>.'
        )
    ),
    Feature("an input field", (_START, "Skipper Lindqvist", _END)): _between(
        _p('Skipper <text:text-input text:description="Name">Lindqvist</text:text-input>.')
    ),
    Feature("a link to a place in the text", (_START, "go to the annex", _END)): _between(
        _p('Please go to <text:a xlink:type="simple" xlink:href="#annex">the annex</text:a>.')
    ),
    Feature("text in capitals by format", (_START, _END), (("notice", "boarding"),)): _between(
        _p('<text:span text:style-name="Capitals">notice</text:span> of boarding')
    ),
}
_PAGES = {
    "a header and a footer": f"<style:header>{_p('Harbour handbook')}</style:header><style:footer>{_p('Edition of March')}</style:footer>"
}
_NOT_IN_WORD = {
    # LibreOffice writes other text or none for these.
    "a citation",
    "a hidden section",
    "an input field",
    "a placeholder",
}


def cases(folder: Path) -> Iterator[Case]:
    """Write the documents as ``docx`` and ``odt``."""
    sources = {
        feature: flat_text(body, page=_PAGES.get(feature.name, "")) for feature, body in _FEATURES.items()
    }
    yield from convert_with_libreoffice(folder, sources, "fodt", ("odt",))
    for_word = {feature: text for feature, text in sources.items() if feature.name not in _NOT_IN_WORD}
    yield from convert_with_libreoffice(folder, for_word, "fodt", ("docx",))
