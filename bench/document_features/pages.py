"""PDF files by Chromium, ReportLab and LibreOffice, each with one feature, and what a person sees in them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4, A5, landscape
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfbase import pdfdoc, pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import BaseDocTemplate, Frame, PageTemplate, Paragraph, SimpleDocTemplate, Table

from document_features.case import Case, Feature, convert_with_libreoffice, save
from document_features.flat_text import NAMESPACES

CHROMIUM_TIMEOUT_S = 60.0

TITLE = "Harbour notice"
OPENING = "Ships report to the pilot station."
CLOSING = "The office closes at dusk."


def shows(
    name: str, *words: str, rows: tuple[tuple[str, ...], ...] = (), hidden: tuple[str, ...] = ()
) -> Feature:
    """A feature with plain text before and after it.

    A word with no settled place in the reading order, such as one in a margin, is a row of its own instead of one of
    ``words``.
    """
    return Feature(name, (TITLE, OPENING, *words, CLOSING), rows, hidden)


# --- Chromium ---------------------------------------------------------------------------------------------------------

FILLER = (
    "Each vessel waits at the outer buoy until the signal turns green and the channel is clear of traffic. "
)


def html(body: str, style: str = "", opening: str = f"<h1>{TITLE}</h1><p>{OPENING}</p>") -> str:
    """An HTML page with the text before and after ``body``. An ``opening`` replaces the text before it."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Notice</title>'
        f"<style>body {{ font: 12pt 'DejaVu Serif'; margin: 0 }} {style}</style><body>"
        f"{opening}{body}<p>{CLOSING}</p></body></html>"
    )


def html_rows(*rows: tuple[str, ...], tag: str = "td") -> str:
    return "".join("<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in row) + "</tr>" for row in rows)


BERTHS = (("Berth", "Depth", "Dues"), ("Lantern", "nine", "410"), ("Gannet", "eleven", "575"))
BERTH_WORDS = tuple(cell for row in BERTHS for cell in row)
BORDERS = "table { border-collapse: collapse } td, th { border: 1px solid black; padding: 3pt 8pt }"
REGISTER = tuple((f"Entry{number}", f"cargo{number * 7}", str(9000 + number)) for number in range(1, 51))

PRINTED: dict[Feature, str] = {
    shows("two columns", "tariff", "mooring", "cables", "quarantine", "yellow flag", "surgeon"): html(
        "<div style='columns: 2; column-gap: 20pt'>"
        f"<p>The tariff lists every charge. {FILLER}</p><p>Fees for mooring follow. {FILLER}</p>"
        f"<p>Two cables per ship. {FILLER}</p><p style='break-before: column'>On quarantine: {FILLER}</p>"
        f"<p>Hoist the yellow flag. {FILLER}</p><p>Wait for the surgeon. {FILLER}</p></div>"
    ),
    shows("three columns", "anchors", "chandler", "beacons", "keeper", "cranes", "foreman"): html(
        "<div style='columns: 3'>"
        f"<p>About anchors. {FILLER}</p><p>Ask the chandler. {FILLER}</p>"
        f"<p style='break-before: column'>About beacons. {FILLER}</p><p>Ask the keeper. {FILLER}</p>"
        f"<p style='break-before: column'>About cranes. {FILLER}</p><p>Ask the foreman. {FILLER}</p></div>"
    ),
    shows("a heading across two columns", "breakwater", "masonry", "Winter rules", "icebreaker", "sledges"): html(
        "<div style='columns: 2'>"
        f"<p>The breakwater is old. {FILLER}</p><p style='break-before: column'>Its masonry leaks. {FILLER}</p>"
        "<h2 style='column-span: all'>Winter rules</h2>"
        f"<p>The icebreaker leads. {FILLER}</p><p style='break-before: column'>Use sledges. {FILLER}</p></div>"
    ),
    shows("a table with borders", *BERTH_WORDS, rows=BERTHS): html(
        f"<table>{html_rows(*BERTHS)}</table>", BORDERS
    ),
    shows("a table without borders", *BERTH_WORDS, rows=BERTHS): html(
        f"<table style='border-spacing: 24pt 4pt'>{html_rows(*BERTHS)}</table>"
    ),
    shows("a cell merged over two columns", *BERTH_WORDS, "Closed for dredging", "Curlew", "620",
          rows=(*BERTHS, ("Plover", "Closed for dredging"), ("Curlew", "twelve", "620"))): html(
        f"<table>{html_rows(*BERTHS)}<tr><td>Plover</td><td colspan=2>Closed for dredging</td></tr>"
        f"{html_rows(('Curlew', 'twelve', '620'))}</table>",
        BORDERS,
    ),
    shows("a cell merged over three rows", "Ferry", "Amber", "Basil", "Cedar",
          rows=(("Amber", "801"), ("Basil", "802"), ("Cedar", "803"), ("Barge", "Dahlia", "804"))): html(
        "<table><tr><td rowspan=3 style='vertical-align: top'>Ferry</td><td>Amber</td><td>801</td></tr>"
        f"{html_rows(('Basil', '802'), ('Cedar', '803'), ('Barge', 'Dahlia', '804'))}</table>",
        BORDERS,
    ),
    shows("a table over two pages with a repeated header", "Vessel", "Freight", "Entry1", "cargo7", "Entry35",
          "Entry50", "cargo350", rows=REGISTER): html(
        f"<table><thead>{html_rows(('Vessel', 'Freight', 'Tally'), tag='th')}</thead>{html_rows(*REGISTER)}</table>",
        BORDERS,
    ),
    shows("a table with cells of several lines", "Stone", "bollards", "Timber", "gangway",
          rows=(("Stone", "410"), ("Timber", "575"))): html(
        "<table style='width: 260pt'><tr><td style='width: 110pt'>Stone quay with iron bollards</td><td>410</td>"
        "<td>all year</td></tr><tr><td>Timber jetty with a folding gangway</td><td>575</td><td>summer</td></tr>"
        "</table>",
        BORDERS + "td { vertical-align: top }",
    ),
    shows("a table with empty cells", "Petrel", "Skua", "Fulmar",
          rows=(("Petrel", "311"), ("Skua", "322"), ("Fulmar", "333"))): html(
        f"<table>{html_rows(('Petrel', '', '311', ''), ('', 'Skua', '', '322'), ('Fulmar', '', '', '333'))}</table>",
        BORDERS + "td { width: 70pt; height: 14pt }",
    ),
    shows("a nested list with numbers", "compass", "sextant", "brass case", "lanterns",
          rows=(("7", "compass"), ("8", "sextant"), ("9", "lanterns"))): html(
        "<ol start=7><li>A compass</li><li>A sextant<ul><li>in a brass case</li></ul></li><li>Two lanterns</li></ol>"
    ),
    shows("a list of terms", "Demurrage", "delayed unloading", "Salvage", "rescued cargo"): html(
        "<dl><dt>Demurrage</dt><dd>a charge for delayed unloading</dd><dt>Salvage</dt><dd>a reward for rescued cargo"
        "</dd></dl>"
    ),
    shows("justified text", "The wharfinger keeps the keys of the bonded warehouse and opens it for the merchants",
          hidden=("thekeys", "keysof", "bondedwarehouse")): html(
        "<p style='text-align: justify; width: 190pt'>The wharfinger keeps the keys of the bonded warehouse and opens "
        f"it for the merchants. {FILLER}</p>"
    ),
    shows("a letterspaced heading", "ADMIRALTY", "CHARTS", hidden=("A D M", "ADMIRALTYCHARTS")): html(
        "<h2 style='letter-spacing: 0.35em; word-spacing: 0.6em'>ADMIRALTY CHARTS</h2><p>Sold at the gate.</p>"
    ),
    shows("a soft hyphen at a line end", "quarantine", "Sold at the gate",
          hidden=("quaran- tine", "quaran tine")): html(
        "<p style='width: 102pt'>Free of quaran&shy;tine</p><p>Sold at the gate.</p>", "p { hyphens: manual }"
    ),
    shows("a soft hyphen inside a line", "quarantine", hidden=("quaran tine", "quaran-tine")): html(
        "<p>Free of quaran&shy;tine.</p>"
    ),
    shows("rotated text", "Sold at the gate", rows=(("Slipway closed",),)): html(
        "<div style='position: absolute; left: 300pt; top: 320pt; transform: rotate(-90deg)'>Slipway closed</div>"
        "<p>Sold at the gate.</p>"
    ),
    shows("text on a slope", "Sold at the gate", rows=(("Approved by the wardens",),)): html(
        "<div style='display: inline-block; margin: 60pt; transform: rotate(-20deg)'>Approved by the wardens</div>"
        "<p>Sold at the gate.</p>"
    ),
    shows("a sideways line in the margin", "Sold at the gate", "Bring a lamp",
          rows=(("Edition of the harbourmaster",),)): html(
        "<div style='position: absolute; left: 0; top: 20pt; writing-mode: vertical-rl; font-size: 8pt'>"
        "Edition of the harbourmaster</div><p>Sold at the gate.</p><p>Bring a lamp.</p>",
        "body { padding-left: 40pt }",
    ),
    shows("text boxes out of order in the source", "First bell", "Second bell", "Third bell"): html(
        "<div style='position: relative; height: 160pt'>"
        "<div style='position: absolute; top: 110pt'>Third bell: lower the boats.</div>"
        "<div style='position: absolute; top: 10pt'>First bell: wake the crew.</div>"
        "<div style='position: absolute; top: 60pt'>Second bell: raise the flag.</div></div>"
    ),
    shows("a reversed flex column", "Alder wharf", "Birch wharf", "Cherry wharf"): html(
        "<div style='display: flex; flex-direction: column-reverse'><p>Cherry wharf opens last.</p>"
        "<p>Birch wharf opens next.</p><p>Alder wharf opens first.</p></div>"
    ),
    shows("fields of a web form with values", "Captain", "Josephine", "Flag", "Norway", "Remarks", "Leaking hatch",
          rows=(("Captain", "Josephine"), ("Flag", "Norway")), hidden=("Sweden",)): html(
        "<p>Captain <input value='Josephine'></p><p>Flag <select><option>Sweden<option selected>Norway</select></p>"
        "<p>Remarks <textarea>Leaking hatch</textarea></p>"
    ),
    shows("a link", "read the almanac", "before sailing"): html(
        "<p>Please <a href='https://example.org/almanac'>read the almanac</a> before sailing.</p>"
    ),
    shows("white text on white", "Sold at the gate", hidden=("smuggler",)): html(
        "<p style='color: white'>smuggler</p><p>Sold at the gate.</p>"
    ),
    shows("white text on black", "Danger to swimmers", "Sold at the gate"): html(
        "<p style='color: white; background: black; print-color-adjust: exact'>Danger to swimmers</p>"
        "<p>Sold at the gate.</p>"
    ),
    shows("text clipped by its box", "Visible cargo", hidden=("contraband",)): html(
        "<div style='height: 20pt; overflow: hidden'>Visible cargo<br><br><br>contraband</div>"
    ),
    shows("text cut with an ellipsis", "Customs house", hidden=("vault",)): html(
        "<p style='width: 130pt; overflow: hidden; white-space: nowrap; text-overflow: ellipsis'>"
        "Customs house with its vault</p>"
    ),
    shows("transparent text", "Sold at the gate", hidden=("phantom",)): html(
        "<p style='color: rgba(0, 0, 0, 0)'>phantom</p><p>Sold at the gate.</p>"
    ),
    shows("text under an opaque box", "Sold at the gate", hidden=("password",)): html(
        "<div style='position: relative; height: 30pt'><span>password</span><div style='position: absolute; inset: 0; "
        "background: black; print-color-adjust: exact'></div></div><p>Sold at the gate.</p>"
    ),
    shows("text for screens and for print", "Printed register", hidden=("toolbar",)): html(
        "<nav>toolbar</nav><p class='paper'>Printed register</p>",
        ".paper { display: none } @media print { nav { display: none } .paper { display: block } }",
    ),
    shows("a raised number of a note", "wharfage", "applies", rows=(("wharfage", "17"),)): html(
        "<p>The wharfage<sup>17</sup> applies.</p>"
    ),
    shows("lowered numbers in chemical formulas", "CO2", "CH4", "by tanker"): html(
        "<p>We carry CO<sub>2</sub> and CH<sub>4</sub> by tanker.</p>"
    ),
    shows("a formula in italics", "F = m · a", "Newton"): html(
        "<p><i>F</i> = <i>m</i> · <i>a</i></p><p>after Newton</p>"
    ),
    shows("Arabic text", "ميناء", "السفينة", "رسوم"): html(
        "<div dir='rtl' lang='ar' style='font-family: DejaVu Sans'><p>ميناء الشحن</p>"
        "<p>تدفع السفينة رسوم الرصيف</p></div>"
    ),
    shows("Hebrew text with a number", "נמל", "רציף 27", "סגור"): html(
        "<div dir='rtl' lang='he' style='font-family: DejaVu Sans'><p>נמל הדיג</p><p>רציף 27 סגור היום</p></div>"
    ),
    shows("German umlauts", "Hafengebühr", "Größe", "Überfahrt", "Fähre"): html(
        "<p>Die Hafengebühr nach Größe. Die Überfahrt mit der Fähre.</p>"
    ),
    shows("German umlauts of two characters", "Hafengebühr", "Fähre", "Möwe"): html(
        "<p>Die Hafengebu\u0308hr der Fa\u0308hre und die Mo\u0308we.</p>"
    ),
    shows("Greek and Russian text", "λιμάνι", "πλοίο", "причал", "якорь"): html(
        "<p>Το λιμάνι και το πλοίο. На причал брошен якорь.</p>"
    ),
    shows("small capitals after a large one", "ORDINANCE", "Sold at the gate",
          hidden=("O RDINANCE", "RDINANCE")): html(
        "<p><span style='font-size: 18pt'>O</span>RDINANCE of the port.</p><p>Sold at the gate.</p>"
    ),
    shows("capitals by style", "LIGHTHOUSE", "Sold at the gate"): html(
        "<p style='text-transform: uppercase'>lighthouse</p><p>Sold at the gate.</p>"
    ),
    shows("a drop cap", "Fishermen", "return at dawn", "outer buoy", hidden=("ishermen", "F ishermen")): html(
        f"<p class='drop'>Fishermen return at dawn. {FILLER}{FILLER}</p>",
        ".drop::first-letter { float: left; font-size: 46pt; line-height: 0.85; padding-right: 4pt }",
    ),
    shows("a sidebar", "Sold at the gate", "Bring a lamp",
          rows=(("Tide clock",), ("High water at seven",))): html(
        "<aside style='float: right; width: 130pt; border: 1px solid'><b>Tide clock</b><p>High water at seven</p>"
        f"</aside><p>Sold at the gate. {FILLER}{FILLER}</p><p>Bring a lamp. {FILLER}</p>"
    ),
    shows("a caption under a picture", "Sold at the gate", "Figure 3", "The old slipway"): html(
        "<p>Sold at the gate.</p><figure><svg width=200 height=80><rect width=200 height=80 fill=teal /></svg>"
        "<figcaption>Figure 3. The old slipway</figcaption></figure>"
    ),
    shows("code with indentation", "def berth(ship):", "if ship.draught > 9:", 'return "outer"', "log(ship)",
          hidden=("defberth", "ifship")): html(
        "<pre>def berth(ship):\n    if ship.draught &gt; 9:\n        return \"outer\"\n    log(ship)</pre>"
    ),
    shows("a poem", "The gulls ascend", "the nets are dry", "we mend", "beneath the sky",
          hidden=("ascendthe", "drywe")): html(
        "<p>The gulls ascend,<br>the nets are dry;<br>with thread we mend<br>beneath the sky.</p>"
    ),
    shows("an address beside a date", "Amanda Whitlock", "Cooper Lane", "Dovecote",
          rows=(("Amanda Whitlock", "14 March"),)): html(
        "<div style='display: flex; justify-content: space-between'><div>Amanda Whitlock<br>8 Cooper Lane<br>Dovecote"
        "</div><div>14 March</div></div>"
    ),
    shows("a watermark behind text", "The pontoon is reserved for lifeboats", "all year round",
          rows=(("SPECIMEN",),)): html(
        "<div style='position: absolute; left: 60pt; top: 120pt; font-size: 80pt; color: #ddd; z-index: -1; "
        "transform: rotate(-40deg)'>SPECIMEN</div>"
        "<p>The pontoon is reserved for lifeboats</p><p>and stays free all year round.</p>"
    ),
    shows("text in an SVG drawing", "Turbine hall", "Sold at the gate", rows=(("Boiler", "Condenser"),)): html(
        "<svg width=400 height=100><rect x=5 y=5 width=390 height=90 fill='none' stroke='black' />"
        "<text x=150 y=30>Turbine hall</text><text x=20 y=75>Boiler</text><text x=270 y=75>Condenser</text></svg>"
        "<p>Sold at the gate.</p>"
    ),
    shows("a word along a curve", "Sold at the gate", rows=(("semaphore",),)): html(
        "<svg width=400 height=120><path id='arc' d='M 40 110 Q 200 0 360 110' fill='none' /><text font-size=28>"
        "<textPath href='#arc' startOffset='20%'>semaphore</textPath></text></svg><p>Sold at the gate.</p>"
    ),
    shows("words before an element by style", "Warning: thin ice", "Clause 1: lamps", "Clause 2: bells"): html(
        "<p class='thin'>thin ice</p><p class='clause'>lamps</p><p class='clause'>bells</p>",
        ".thin::before { content: 'Warning: ' } .clause { counter-increment: clause }"
        ".clause::before { content: 'Clause ' counter(clause) ': ' }",
    ),
    shows("ruby over a word", "quay", "is slippery", rows=(("kee",),)): html(
        "<p>The <ruby>quay<rt>kee</rt></ruby> is slippery.</p>"
    ),
    shows("details open and closed", "Opening hours", "six until nine", "Wages", hidden=("twelve crowns",)): html(
        "<details open><summary>Opening hours</summary><p>six until nine</p></details>"
        "<details><summary>Wages</summary><p>twelve crowns</p></details>"
    ),
    shows("text struck through", "old fare", "forty", "new fare", "fifty"): html(
        "<p>The old fare was <s>forty</s>, the new fare is <ins>fifty</ins>.</p>"
    ),
    shows("pages of several sizes", "portrait sheet", "wide sheet", "small sheet"): html(
        "<section>The portrait sheet.</section><section style='page: wide'>The wide sheet.</section>"
        "<section style='page: small'>The small sheet.</section>",
        "@page wide { size: A4 landscape } @page small { size: A6 }",
    ),
    shows("headers and footers of pages by style", "Embankment", "Footbridge",
          rows=(("Port gazette",), ("Sheet 1",), ("Sheet 2",))): html(
        "<p>Embankment</p><p style='break-before: page'>Footbridge</p>",
        "@page { margin: 60pt; @top-center { content: 'Port gazette' } "
        "@bottom-right { content: 'Sheet ' counter(page) } }",
    ),
    shows("bold type inside a word", "lighthouse", "waterline", hidden=("light house", "water line")): html(
        "<p>Above the light<b>house</b> and below the <i>water</i>line.</p>"
    ),
    shows("text with a shadow", "Regatta", "Sold at the gate", hidden=("Regatta Regatta", "RReeggaattttaa")): html(
        "<h2 style='text-shadow: 1px 1px 0 grey'>Regatta</h2><p>Sold at the gate.</p>"
    ),
    shows("ligatures", "officer", "flotilla", "affluent", "baffling", "fishery",
          hidden=("o cer", "otilla", "a uent")): html(
        "<p style=\"font-family: 'DejaVu Sans'; font-variant-ligatures: common-ligatures\">The officer of the flotilla "
        "met an affluent but baffling fishery.</p>"
    ),
    shows("narrow spaces in figures", "12 500 crowns", "Sold at the gate"): html(
        "<p>Dues: 12\u202f500\u00a0crowns</p><p>Sold at the gate.</p>"
    ),
    shows("a table of contents with dot leaders", "Pilotage", "Towage", "Stowage",
          rows=(("Pilotage", "23"), ("Towage", "48"), ("Stowage", "96"))): html(
        "".join(
            f"<div style='display: flex'><span>{entry}</span><span style='flex: 1; overflow: hidden; height: 16pt; "
            f"white-space: nowrap'>{' .' * 40}</span><span>{number}</span></div>"
            for entry, number in (("Pilotage", 23), ("Towage", 48), ("Stowage", 96))
        )
    ),
    shows("cards in a grid", "Heron card", "Egret card", "Sold at the gate",
          rows=(("Heron card", "Egret card"),)): html(
        "<div style='display: grid; grid-template-columns: 1fr 1fr 1fr; gap: 20pt'>"
        "<b>Heron card</b><b>Egret card</b><b>Bittern card</b></div><p>Sold at the gate.</p>"
    ),
}  # fmt: skip


def print_with_chromium(content: str, scratch: Path) -> bytes:
    """Print an HTML page to a PDF file and return the file's bytes."""
    source, target = scratch / "page.html", scratch / "page.pdf"
    source.write_text(content, encoding="utf-8")
    target.unlink(missing_ok=True)
    subprocess.run(
        [
            "chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={scratch / 'profile'}",
            f"--print-to-pdf={target}",
            "--no-pdf-header-footer",
            source.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=CHROMIUM_TIMEOUT_S,
    )
    return target.read_bytes()


# --- ReportLab --------------------------------------------------------------------------------------------------------

Drawing = Callable[[Canvas], None]

WIDTH, HEIGHT = A4
LEFT = 72.0
BODY = getSampleStyleSheet()["BodyText"]

# Rows of five by seven dots, as in the bitmap fonts of old typesetting programs.
DOT_LETTERS = {
    "T": ("11111", "00100", "00100", "00100", "00100", "00100", "00100"),
    "I": ("01110", "00100", "00100", "00100", "00100", "00100", "01110"),
    "D": ("11110", "10001", "10001", "10001", "10001", "10001", "11110"),
    "E": ("11111", "10000", "10000", "11110", "10000", "10000", "11111"),
    "S": ("01111", "10000", "10000", "01110", "00001", "00001", "11110"),
}
DOT = 100
DOT_LETTER_WIDTH = 600


def line(
    canvas: Canvas, text: str, y: float, x: float = LEFT, font: str = "Helvetica", size: float = 11
) -> None:
    canvas.setFont(font, size)
    canvas.drawString(x, y, text)


def lines(canvas: Canvas, *texts: str, top: float = 700, x: float = LEFT, font: str = "Helvetica") -> None:
    for number, text in enumerate(texts):
        line(canvas, text, top - 16 * number, x, font)


def text_lines(*texts: str, font: str = "Helvetica") -> Drawing:
    return lambda canvas: lines(canvas, *texts, font=font)


def draw_letters_one_by_one(canvas: Canvas) -> None:
    """Place each letter alone and draw no spaces, as some drivers of printers do."""
    canvas.setFont("Helvetica", 11)
    x = LEFT
    for letter in "anchorage for trawlers":
        if letter != " ":
            canvas.drawString(x, 700, letter)
        x += pdfmetrics.stringWidth(letter, "Helvetica", 11)


def draw_words_apart(canvas: Canvas) -> None:
    x = LEFT
    for word in ("keelboats", "under", "canvas"):
        line(canvas, word, 700, x)
        x += pdfmetrics.stringWidth(word, "Helvetica", 11) + 3


def draw_parts_of_words(canvas: Canvas) -> None:
    text = canvas.beginText(LEFT, 700)
    text.setFont("Helvetica", 11)
    for part in ("For cin", "nam", "on and tur", "meric"):
        text.textOut(part)
    canvas.drawText(text)


def draw_backwards(canvas: Canvas) -> None:
    for y, text in ((620, "Third watch sleeps."), (660, "Second watch cooks."), (700, "First watch steers.")):
        line(canvas, text, y)


def draw_twice(canvas: Canvas) -> None:
    for shift in (0, 0.3):
        line(canvas, "Hurricane shutters", 700, LEFT + shift)


def draw_spaced(
    canvas: Canvas, character_space: float = 0, word_space: float = 0, scale: float = 100
) -> None:
    text = canvas.beginText(LEFT, 700)
    text.setFont("Helvetica", 11)
    text.setCharSpace(character_space)
    text.setWordSpace(word_space)
    text.setHorizScale(scale)
    text.textOut("CARPENTER AND RIGGER")
    canvas.drawText(text)


def draw_in_mode(canvas: Canvas, mode: int) -> None:
    text = canvas.beginText(LEFT, 690)
    text.setFont("Helvetica-Bold", 24)
    text.setTextRenderMode(mode)
    text.textOut("Outlined boathouse")
    canvas.drawText(text)


def draw_turned(canvas: Canvas, angle: float, x: float, y: float, *texts: str) -> None:
    canvas.saveState()
    canvas.translate(x, y)
    canvas.rotate(angle)
    lines(canvas, *texts, top=0, x=0)
    canvas.restoreState()


def draw_white(canvas: Canvas) -> None:
    canvas.setFillColor(colors.white)
    line(canvas, "smuggler", 700)
    canvas.setFillColor(colors.black)


def draw_under_bar(canvas: Canvas) -> None:
    line(canvas, "Witness:", 700)
    line(canvas, "Bartholomew", 700, 130)
    canvas.rect(126, 694, 80, 18, fill=1)
    line(canvas, "signed here", 700, 220)


def draw_clipped(canvas: Canvas) -> None:
    canvas.saveState()
    path = canvas.beginPath()
    path.rect(LEFT, 690, 300, 24)
    canvas.clipPath(path, stroke=0)
    lines(canvas, "Visible cargo", "", "", "contraband")
    canvas.restoreState()


def draw_beside_crop_box(canvas: Canvas) -> None:
    canvas.setCropBox((40, 40, WIDTH - 40, HEIGHT - 30))
    line(canvas, "registration mark", HEIGHT - 15, 200, size=8)
    line(canvas, "Sold at the gate.", 700)


def draw_beside_page(canvas: Canvas) -> None:
    line(canvas, "pasteboard", 700, WIDTH + 40)
    line(canvas, "Sold at the gate.", 700)


def draw_layers(canvas: Canvas) -> None:
    """Draw a layer that is on and a layer that is off."""
    document = canvas._doc
    groups = []
    for number, (name, text) in enumerate((("Depths", "nine fathoms"), ("Cables", "buried telegraph"))):
        group = document.Reference(
            pdfdoc.PDFDictionary({"Type": pdfdoc.PDFName("OCG"), "Name": pdfdoc.PDFString(name)})
        )
        groups.append(group)
        canvas.beginForm(name)
        line(canvas, text, 700 - 20 * number)
        canvas.endForm()
        form = next(item for item in document.idToObject.values()
                    if isinstance(item, pdfdoc.PDFFormXObject) and item.Contents is None)  # fmt: skip
        form.Contents = pdfdoc.PDFStream(pdfdoc.PDFDictionary({"OC": group}), form.stream)
        canvas.doForm(name)
    catalog = document._catalog
    catalog.__NoDefault__ = [*catalog.__NoDefault__, "OCProperties"]
    catalog.OCProperties = pdfdoc.PDFDictionary(
        {
            "OCGs": pdfdoc.PDFArray(groups),
            "D": pdfdoc.PDFDictionary(
                {
                    "Order": pdfdoc.PDFArray(groups),
                    "ON": pdfdoc.PDFArray(groups[:1]),
                    "OFF": pdfdoc.PDFArray(groups[1:]),
                }
            ),
        }
    )


def draw_attachment(canvas: Canvas) -> None:
    """Attach a text file, which viewers list beside the page."""
    line(canvas, "The manifest is attached.", 700)
    document = canvas._doc
    stream = pdfdoc.PDFStream(
        pdfdoc.PDFDictionary(
            {"Type": pdfdoc.PDFName("EmbeddedFile"), "Subtype": pdfdoc.PDFName("text/plain")}
        ),
        b"Consignment of nutmeg and saffron for the apothecary.\n",
    )
    name = pdfdoc.PDFString("manifest.txt")
    file = pdfdoc.PDFDictionary(
        {
            "Type": pdfdoc.PDFName("Filespec"),
            "F": name,
            "UF": name,
            "EF": pdfdoc.PDFDictionary({"F": document.Reference(stream)}),
        }
    )
    names = pdfdoc.PDFDictionary({"Names": pdfdoc.PDFArray([name, document.Reference(file)])})
    document._catalog.Names = pdfdoc.PDFDictionary({"EmbeddedFiles": names})


def draw_bookmarks(canvas: Canvas) -> None:
    line(canvas, "Sold at the gate.", 700)
    for key, title in (("one", "Chapter of storms"), ("two", "Chapter of calms")):
        canvas.bookmarkPage(key)
        canvas.addOutlineEntry(title, key)
    canvas.showOutline()


def draw_note(canvas: Canvas, contents: str, **options: int) -> None:
    line(canvas, "Sold at the gate.", 700)
    canvas.textAnnotation(contents, (300, 690, 320, 710), **options)


def draw_free_text(canvas: Canvas) -> None:
    line(canvas, "Sold at the gate.", 700)
    canvas.freeTextAnnotation("Ask the purser", "/Helv 12 Tf 0 g", (72, 640, 260, 664))


def draw_highlight(canvas: Canvas) -> None:
    line(canvas, "Sold at the gate.", 700)
    canvas.highlightAnnotation("Only in August", (LEFT, 696, 160, 712))


def draw_text_field(canvas: Canvas) -> None:
    line(canvas, "Consignee", 700)
    canvas.acroForm.textfield(
        "Featherstone", name="consignee", tooltip="", x=150, y=692, width=200, height=22
    )


def draw_long_text_field(canvas: Canvas) -> None:
    line(canvas, "Remarks", 700)
    canvas.acroForm.textfield(
        "Barrels leak\nHoops rusted",
        name="remarks",
        x=150,
        y=640,
        width=200,
        height=70,
        fieldFlags="multiline",
    )


def draw_choice(canvas: Canvas) -> None:
    line(canvas, "Country", 700)
    canvas.acroForm.choice(
        "Iceland",
        options=["Denmark", "Iceland", "Finland"],
        name="country",
        x=150,
        y=692,
        width=120,
        height=22,
    )


def draw_list_box(canvas: Canvas) -> None:
    line(canvas, "Cargo", 700)
    canvas.acroForm.listbox(
        "Copper", options=["Timber", "Copper", "Salt"], name="cargo", x=150, y=640, width=120, height=70
    )


def draw_check_boxes(canvas: Canvas) -> None:
    for y, name, checked in ((700, "Insured", True), (670, "Perishable", False)):
        line(canvas, name, y)
        canvas.acroForm.checkbox(name=name, checked=checked, x=150, y=y - 6)


def draw_link(canvas: Canvas) -> None:
    line(canvas, "See the almanac of the pilots.", 700)
    canvas.linkURL("https://example.org/almanac", (LEFT, 696, 220, 712))


def draw_running_lines(canvas: Canvas) -> None:
    for number, text in ((1, "Embankment"), (2, "Footbridge")):
        line(canvas, "Port gazette", 810, 250, size=8)
        line(canvas, f"Sheet {number} of 2", 30, 260, size=8)
        line(canvas, text, 690)
        if number == 1:
            canvas.showPage()


def draw_pages_of_sizes(canvas: Canvas) -> None:
    line(canvas, "portrait sheet", 700)
    for size, text in ((landscape(A4), "wide sheet"), (A5, "small sheet")):
        canvas.showPage()
        canvas.setPageSize(size)
        line(canvas, text, 300)


def draw_nested_form(canvas: Canvas) -> None:
    canvas.beginForm("inner")
    line(canvas, "seal of the wardens", 680)
    canvas.endForm()
    canvas.beginForm("outer")
    line(canvas, "given at the chapel", 700)
    canvas.doForm("inner")
    canvas.endForm()
    canvas.doForm("outer")


def draw_drop_cap(canvas: Canvas) -> None:
    line(canvas, "M", 686, size=38)
    line(canvas, "erchants pay before noon", 703, 106)
    line(canvas, "and leave before the ebb.", 688, 106)


def draw_two_pages_on_sheet(canvas: Canvas) -> None:
    lines(canvas, "Verso begins here.", "Verso ends with rope.", x=LEFT)
    lines(canvas, "Recto begins here.", "Recto ends with tar.", x=LEFT + 260)


def draw_price_list(canvas: Canvas) -> None:
    """Draw the columns of a table one after the other."""
    lines(canvas, "Hemp", "Pitch", "Oakum")
    lines(canvas, "701", "702", "703", x=300)


def draw_numbered_lines(canvas: Canvas) -> None:
    lines(canvas, "Whereas the tide", "waits for nobody,", "the crew shall row.")
    lines(canvas, "55", "56", "57", x=40)


def draw_note_at_foot(canvas: Canvas) -> None:
    line(canvas, "The lighterage is due.", 700)
    line(canvas, "3", 704, LEFT + pdfmetrics.stringWidth("The lighterage is due.", "Helvetica", 11), size=6)


def draw_dot_letters(canvas: Canvas) -> None:
    """Write "TIDES" in a Type 3 font whose letters are made of squares."""
    document = canvas._doc
    procedures, names = {}, sorted(DOT_LETTERS)
    for name in names:
        squares = "\n".join(
            f"{column * DOT} {(6 - row) * DOT} {DOT} {DOT} re"
            for row, dots in enumerate(DOT_LETTERS[name])
            for column, dot in enumerate(dots)
            if dot == "1"
        )
        content = f"{DOT_LETTER_WIDTH} 0 0 0 500 700 d1\n{squares}\nf\n".encode()
        procedures[name] = document.Reference(pdfdoc.PDFStream(pdfdoc.PDFDictionary({}), content))
    first, last = ord(names[0]), ord(names[-1])
    differences = [item for name in names for item in (ord(name), pdfdoc.PDFName(name))]
    font = pdfdoc.PDFDictionary(
        {
            "Type": pdfdoc.PDFName("Font"),
            "Subtype": pdfdoc.PDFName("Type3"),
            "FontBBox": pdfdoc.PDFArray([0, 0, 500, 700]),
            "FontMatrix": pdfdoc.PDFArray([0.001, 0, 0, 0.001, 0, 0]),
            "CharProcs": pdfdoc.PDFDictionary(procedures),
            "Encoding": pdfdoc.PDFDictionary(
                {"Type": pdfdoc.PDFName("Encoding"), "Differences": pdfdoc.PDFArray(differences)}
            ),
            "FirstChar": first,
            "LastChar": last,
            "Widths": pdfdoc.PDFArray([DOT_LETTER_WIDTH] * (last - first + 1)),
            "Resources": pdfdoc.PDFDictionary({}),
        }
    )
    document.idToObject["BasicFonts"].dict["Dots"] = document.Reference(font)
    canvas.addLiteral(f"BT /Dots 20 Tf 1 0 0 1 {LEFT} 690 Tm (TIDES) Tj ET")


def draw_vertical_chinese(canvas: Canvas) -> None:
    for x, text in ((400, "船舶停靠"), (360, "码头收费")):
        canvas.setFont("VerticalSong", 14)
        canvas.drawString(x, 700, text)


DRAWN: dict[Feature, Drawing] = {
    shows("letters placed one by one", "anchorage for trawlers", hidden=("anchoragefor", "fortrawlers")):
        draw_letters_one_by_one,
    shows("words apart without space characters", "keelboats under canvas", hidden=("keelboatsunder", "undercanvas")):
        draw_words_apart,
    shows("words drawn in parts", "cinnamon and turmeric", hidden=("cin nam", "tur meric")): draw_parts_of_words,
    shows("lines drawn from the bottom up", "First watch", "Second watch", "Third watch"): draw_backwards,
    shows("bold type by drawing twice", "Hurricane shutters",
          hidden=("HHuurr", "Hurricane shutters Hurricane", "HurricaneHurricane")): draw_twice,
    shows("wide letter spacing", "CARPENTER", "RIGGER", hidden=("C A R", "CARPENTERAND")):
        partial(draw_spaced, character_space=4, word_space=8),
    shows("narrow type with wide word spacing", "CARPENTER AND RIGGER"):
        partial(draw_spaced, word_space=12, scale=60),
    shows("outlined letters", "Outlined boathouse"): partial(draw_in_mode, mode=1),
    shows("text turned upwards", rows=(("Slipway closed",), ("until Michaelmas",))):
        lambda canvas: draw_turned(canvas, 90, 300, 400, "Slipway closed", "until Michaelmas"),
    shows("text turned downwards", rows=(("Slipway closed",), ("until Michaelmas",))):
        lambda canvas: draw_turned(canvas, -90, 300, 600, "Slipway closed", "until Michaelmas"),
    shows("lines with a small slope", "Scanned ledger", "counting house", "paid in silver"):
        lambda canvas: draw_turned(
            canvas, 2, LEFT, 690, "Scanned ledger pages", "from the counting house", "were paid in silver"
        ),
    shows("white text without a background", hidden=("smuggler",)): draw_white,
    shows("text under a black bar", "Witness:", "signed here", hidden=("Bartholomew",)): draw_under_bar,
    shows("text outside of a clip path", "Visible cargo", hidden=("contraband",)): draw_clipped,
    shows("text outside of the crop box", "Sold at the gate", hidden=("registration mark",)): draw_beside_crop_box,
    shows("text outside of the page", "Sold at the gate", hidden=("pasteboard",)): draw_beside_page,
    shows("a layer that is switched off", "nine fathoms", hidden=("buried telegraph",)): draw_layers,
    shows("an attached text file", "manifest is attached", rows=(("nutmeg and saffron",), ("apothecary",))):
        draw_attachment,
    shows("bookmarks beside the page", "Sold at the gate", rows=(("Chapter of storms",), ("Chapter of calms",))):
        draw_bookmarks,
    shows("a sticky note", "Sold at the gate", rows=(("Bring the parchment",),)):
        partial(draw_note, contents="Bring the parchment"),
    shows("a sticky note with umlauts", "Sold at the gate", rows=(("Schlüssel fürs Bootshaus",),)):
        partial(draw_note, contents="Schlüssel fürs Bootshaus"),
    shows("a sticky note that is hidden", "Sold at the gate", hidden=("parchment",)):
        partial(draw_note, contents="Bring the parchment", F=2),
    shows("text typed on the page by annotation", "Sold at the gate", rows=(("Ask the purser",),)): draw_free_text,
    shows("a highlight with a comment", "Sold at the gate", rows=(("Only in August",),)): draw_highlight,
    shows("a text field with a value", "Consignee", rows=(("Featherstone",),)): draw_text_field,
    shows("a text field of two lines", "Remarks", rows=(("Barrels leak",), ("Hoops rusted",)),
          hidden=("leakHoops",)): draw_long_text_field,
    shows("a choice field with a value", "Country", rows=(("Iceland",),)): draw_choice,
    shows("a list box", "Cargo", rows=(("Timber",), ("Copper",), ("Salt",))): draw_list_box,
    shows("check boxes", "Insured", "Perishable"): draw_check_boxes,
    shows("a link annotation", "almanac of the pilots"): draw_link,
    Feature("running lines and page numbers", (TITLE, OPENING, "Embankment", "Footbridge", CLOSING),
            (("Port gazette",), ("Sheet 1 of 2",), ("Sheet 2 of 2",))): draw_running_lines,
    shows("sheets of several sizes", "portrait sheet", "wide sheet", "small sheet"): draw_pages_of_sizes,
    shows("text in nested forms", "given at the chapel", "seal of the wardens"): draw_nested_form,
    shows("a large initial beside two lines", "Merchants", "before noon", "before the ebb",
          hidden=("M erchants", "erchants")): draw_drop_cap,
    shows("two pages on one sheet", "Verso begins", "Verso ends", "Recto begins", "Recto ends"):
        draw_two_pages_on_sheet,
    shows("table columns drawn one after the other",
          rows=(("Hemp", "701"), ("Pitch", "702"), ("Oakum", "703"))): draw_price_list,
    shows("line numbers in the margin", "Whereas the tide", "waits for nobody", "crew shall row",
          hidden=("55Whereas",)): draw_numbered_lines,
    shows("a small raised figure", "lighterage is due", rows=(("lighterage", "3"),)): draw_note_at_foot,
    shows("a hyphenated word at a line end", "merchandise", "is weighed", hidden=("merchan dise", "merchan- dise")):
        text_lines("On the quay every piece of merchan-", "dise is weighed twice."),
    shows("a Type 3 font", "TIDES"): draw_dot_letters,
    shows("a subset font", "Pélican", "Škuner", "Søløve"): text_lines("Pélican, Škuner, Søløve", font="Vera"),
    shows("ligature characters", "fishery", "flagship", hidden=("shery", "agship")):
        text_lines("The \ufb01shery and the \ufb02agship", font="Vera"),
    shows("Chinese text", "泊位费用", "按船长计算", hidden=("泊 位",)):
        text_lines("泊位费用", "按船长计算", font="STSong-Light"),
    shows("traditional Chinese text", "碼頭規則", "請勿停靠"): text_lines("碼頭規則", "請勿停靠", font="MSung-Light"),
    shows("Japanese text", "港湾の料金", "えんがわ桟橋"): text_lines("港湾の料金", "えんがわ桟橋", font="HeiseiMin-W3"),
    shows("Korean text", "항구 요금", "선착장"): text_lines("항구 요금", "선착장 안내", font="HYSMyeongJo-Medium"),
    shows("vertical Chinese text", "船舶停靠", "码头收费"): draw_vertical_chinese,
    shows("Chinese and Latin words in one line", "舱单", "Octavia", "载货", "480"):
        text_lines("舱单 Octavia 载货 480 吨", font="STSong-Light"),
}  # fmt: skip


def register_fonts() -> None:
    for name in ("STSong-Light", "MSung-Light", "HeiseiMin-W3", "HYSMyeongJo-Medium"):
        pdfmetrics.registerFont(UnicodeCIDFont(name))
    vertical = UnicodeCIDFont("STSong-Light", isVertical=True)
    vertical.fontName = vertical.name = "VerticalSong"
    pdfmetrics.registerFont(vertical)
    pdfmetrics.registerFont(TTFont("Vera", "Vera.ttf"))


def draw_with_reportlab(drawing: Drawing, **options: object) -> bytes:
    """Draw the text before and after the feature, and the feature, on a page of its own size."""
    target = BytesIO()
    canvas = Canvas(target, pagesize=A4, invariant=1, **options)
    line(canvas, TITLE, 780, size=16)
    line(canvas, OPENING, 750)
    drawing(canvas)
    line(canvas, CLOSING, 60)
    canvas.save()
    return target.getvalue()


def draw_rotated_page(rotation: int) -> bytes:
    """Draw text that reads upright once a viewer has turned the page clockwise by ``rotation`` degrees."""
    target = BytesIO()
    canvas = Canvas(target, pagesize=A4, invariant=1)
    canvas.setPageRotation(rotation)
    # For a quarter turn ReportLab exchanges the sides of the page, so that the turned page is upright too.
    x, y = {90: (HEIGHT, 0.0), 180: (WIDTH, HEIGHT), 270: (0.0, WIDTH)}[rotation]
    canvas.translate(x, y)
    canvas.rotate(rotation)
    line(canvas, TITLE, HEIGHT - 60, size=16)
    lines(canvas, OPENING, "Turned ledger of the cooper", "lists staves", "and barrels", top=HEIGHT - 100)
    line(canvas, "Hoop", HEIGHT - 200)
    line(canvas, "88", HEIGHT - 200, WIDTH / 2)
    line(canvas, CLOSING, 60)
    canvas.save()
    return target.getvalue()


def flow(*middle: object, columns: int = 1) -> bytes:
    """Let Platypus lay out the text before and after the feature, and the feature."""
    target = BytesIO()
    parts = [Paragraph(text, BODY) for text in (TITLE, OPENING)]
    parts += [Paragraph(item, BODY) if isinstance(item, str) else item for item in middle]
    parts.append(Paragraph(CLOSING, BODY))
    if columns == 1:
        SimpleDocTemplate(target, pagesize=A4, invariant=1).build(parts)
        return target.getvalue()
    width = (WIDTH - 100) / columns
    frames = [Frame(50 + width * number, 50, width - 12, 300) for number in range(columns)]
    document = BaseDocTemplate(target, pagesize=A4, invariant=1)
    document.addPageTemplates([PageTemplate(frames=frames)])
    document.build(parts)
    return target.getvalue()


def lay_out() -> Iterator[tuple[Feature, bytes]]:
    """Yield the features that Platypus lays out or that need a page of their own."""
    grid = [("GRID", (0, 0), (-1, -1), 0.5, colors.black)]
    for rotation in (90, 180, 270):
        yield (
            shows(
                f"a page rotated by {rotation} degrees",
                "Turned ledger of the cooper",
                "lists staves",
                "and barrels",
                rows=(("Hoop", "88"),),
            ),
            draw_rotated_page(rotation),
        )
    yield (
        shows("a password of the owner only", "Sealed tender of the dockyard"),
        draw_with_reportlab(
            text_lines("Sealed tender of the dockyard"),
            encrypt=StandardEncryption("", ownerPassword="warden"),
        ),
    )
    yield (
        shows(
            "a table of Platypus with a repeated header",
            "Vessel",
            "Entry1",
            "Entry35",
            "Entry50",
            rows=REGISTER,
        ),
        flow(Table([("Vessel", "Freight", "Tally"), *REGISTER], style=grid, repeatRows=1)),
    )
    yield (
        shows(
            "a table of Platypus with merged cells",
            "Quarterly dues",
            "Ferry",
            rows=(("Ferry", "Amber", "801"), ("Basil", "802"), ("Barge", "Cedar", "803")),
        ),
        flow(
            Table(
                [
                    ("Quarterly dues", "", ""),
                    ("Ferry", "Amber", "801"),
                    ("", "Basil", "802"),
                    ("Barge", "Cedar", "803"),
                ],
                style=[
                    *grid,
                    ("SPAN", (0, 0), (2, 0)),
                    ("SPAN", (0, 1), (0, 2)),
                    ("VALIGN", (0, 1), (0, 2), "TOP"),
                ],
            )
        ),
    )
    yield (
        shows("a table with a shaded row", "Oyster", "Mussel", rows=(("Oyster", "911"), ("Mussel", "922"))),
        flow(
            Table(
                [("Oyster", "shells", "911"), ("Mussel", "beds", "922")],
                colWidths=100,
                style=[("BACKGROUND", (0, 0), (-1, 0), colors.lightgrey)],
            )
        ),
    )
    yield (
        shows("frames side by side", "tariff", "mooring", "quarantine", "surgeon"),
        flow(
            *(
                f"{text} {FILLER * 3}"
                for text in ("The tariff.", "On mooring.", "On quarantine.", "The surgeon.")
            ),
            columns=2,
        ),
    )
    yield (
        shows("raised and lowered letters in a paragraph", "H2O", "in the boiler"),
        flow("Only pure H<sub>2</sub>O in the boiler."),
    )


# --- LibreOffice ------------------------------------------------------------------------------------------------------


def fodt(body: str, styles: str = "", page: str = "", header_and_footer: str = "") -> str:
    """A flat text document with the text before and after ``body``."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document {NAMESPACES} office:version="1.3" '
        'office:mimetype="application/vnd.oasis.opendocument.text"><office:automatic-styles>'
        '<style:page-layout style:name="layout"><style:page-layout-properties fo:page-width="21cm" '
        f'fo:page-height="29.7cm" fo:margin="2cm"/>{page}</style:page-layout>{styles}</office:automatic-styles>'
        '<office:master-styles><style:master-page style:name="Standard" style:page-layout-name="layout">'
        f"{header_and_footer}</style:master-page></office:master-styles><office:body><office:text>"
        f'<text:h text:outline-level="1">{TITLE}</text:h><text:p>{OPENING}</text:p>{body}<text:p>{CLOSING}</text:p>'
        "</office:text></office:body></office:document>"
    )


def paragraphs(*texts: str) -> str:
    return "".join(f"<text:p>{text}</text:p>" for text in texts)


def text_style(properties: str) -> str:
    return f'<style:style style:name="marked" style:family="text"><style:text-properties {properties}/></style:style>'


def paragraph_style(properties: str, inside: str = "") -> str:
    return (
        '<style:style style:name="marked" style:family="paragraph">'
        f"<style:paragraph-properties {properties}>{inside}</style:paragraph-properties></style:style>"
    )


def marked(text: str) -> str:
    return f'<text:span text:style-name="marked">{text}</text:span>'


def fodt_rows(*rows: tuple[str, ...]) -> str:
    return "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell table:style-name="cell">{paragraphs(cell)}</table:table-cell>' for cell in row
        )
        + "</table:table-row>"
        for row in rows
    )


CELL = (
    '<style:style style:name="cell" style:family="table-cell">'
    '<style:table-cell-properties fo:border="0.5pt solid #000000" fo:padding="0.1cm"/></style:style>'
)
PAGE_BREAK = (
    '<style:style style:name="next" style:family="paragraph"><style:paragraph-properties fo:break-before="page"/>'
    "</style:style>"
)
SECTION = (
    '<style:style style:name="columns" style:family="section"><style:section-properties '
    'text:dont-balance-text-columns="false"><style:columns fo:column-count="2" fo:column-gap="1cm"/>'
    "</style:section-properties></style:style>"
)

WRITTEN: dict[Feature, str] = {
    shows("a footnote", "The moorage is due", "and the bollards",
          rows=(("Payable in copper",),), hidden=("moorage1", "dueNote")): fodt(
        '<text:p>The moorage is due<text:note text:note-class="footnote"><text:note-citation>1</text:note-citation>'
        "<text:note-body><text:p>Payable in copper</text:p></text:note-body></text:note> each week.</text:p>"
        "<text:p>Guard the ropes and the bollards.</text:p>"
    ),
    Feature("an endnote", (TITLE, OPENING, "The ballast is sold", CLOSING, "Weighed by the constable")): fodt(
        '<text:p>The ballast is sold<text:note text:note-class="endnote"><text:note-citation>i</text:note-citation>'
        "<text:note-body><text:p>Weighed by the constable</text:p></text:note-body></text:note> each week.</text:p>"
    ),
    shows("headers and footers of pages", "Embankment", "Footbridge",
          rows=(("Port gazette",), ("Sheet 1 of 2",), ("Sheet 2 of 2",))): fodt(
        '<text:p>Embankment</text:p><text:p text:style-name="next">Footbridge</text:p>',
        PAGE_BREAK,
        "<style:header-style/><style:footer-style/>",
        "<style:header><text:p>Port gazette</text:p></style:header><style:footer><text:p>Sheet <text:page-number/> of "
        "<text:page-count/></text:p></style:footer>",
    ),
    shows("a section of two columns", "mooring", "cables", "yellow flag", "surgeon"): fodt(
        '<text:section text:style-name="columns" text:name="parts">'
        + paragraphs(*(f"{text} {FILLER * 2}" for text in
                       ("On mooring.", "Two cables.", "The yellow flag.", "The surgeon.")))
        + "</text:section>",
        SECTION,
    ),
    shows("a table with ruled cells", *BERTH_WORDS, rows=BERTHS): fodt(
        f'<table:table><table:table-column table:number-columns-repeated="3"/>{fodt_rows(*BERTHS)}</table:table>', CELL
    ),
    shows("a table without ruled cells", *BERTH_WORDS, rows=BERTHS): fodt(
        f'<table:table><table:table-column table:number-columns-repeated="3"/>{fodt_rows(*BERTHS)}</table:table>'
    ),
    shows("ruled cells over two pages with a repeated header", "Vessel", "Freight", "Entry1", "Entry35", "Entry50",
          rows=REGISTER): fodt(
        '<table:table><table:table-column table:number-columns-repeated="3"/><table:table-header-rows>'
        f"{fodt_rows(('Vessel', 'Freight', 'Tally'))}</table:table-header-rows>{fodt_rows(*REGISTER)}</table:table>",
        CELL,
    ),
    shows("columns set with tabs", "Tallow", "Beeswax", "Linseed",
          rows=(("Tallow", "cask", "611"), ("Beeswax", "crate", "622"), ("Linseed", "sack", "633"))): fodt(
        "".join(f'<text:p text:style-name="marked">{"<text:tab/>".join(row)}</text:p>' for row in
                (("Tallow", "cask", "611"), ("Beeswax", "crate", "622"), ("Linseed", "sack", "633"))),
        paragraph_style("", '<style:tab-stops><style:tab-stop style:position="5cm"/>'
                            '<style:tab-stop style:position="12cm" style:type="right"/></style:tab-stops>'),
    ),
    shows("page numbers after dot leaders", "Pilotage", "Towage",
          rows=(("Pilotage", "23"), ("Towage", "48"))): fodt(
        '<text:p text:style-name="marked">Pilotage<text:tab/>23</text:p>'
        '<text:p text:style-name="marked">Towage<text:tab/>48</text:p>',
        paragraph_style("", '<style:tab-stops><style:tab-stop style:position="15cm" style:type="right" '
                            'style:leader-style="dotted" style:leader-text="."/></style:tab-stops>'),
    ),
    shows("a list with letters", "compass", "sextant", rows=(("a)", "compass"), ("b)", "sextant"))): fodt(
        '<text:list text:style-name="letters"><text:list-item><text:p>compass</text:p></text:list-item>'
        "<text:list-item><text:p>sextant</text:p></text:list-item></text:list>",
        '<text:list-style style:name="letters"><text:list-level-style-number text:level="1" style:num-format="a" '
        'style:num-suffix=")"><style:list-level-properties text:space-before="0.5cm" text:min-label-width="0.7cm"/>'
        "</text:list-level-style-number></text:list-style>",
    ),
    shows("a framed text box", "Sold at the gate", "Bring a lamp", rows=(("Beware of the winch",),)): fodt(
        '<text:p><draw:frame text:anchor-type="paragraph" svg:x="11cm" svg:y="0cm" svg:width="6cm" svg:height="1cm">'
        "<draw:text-box><text:p>Beware of the winch</text:p></draw:text-box></draw:frame>"
        f"Sold at the gate. {FILLER * 3}</text:p><text:p>Bring a lamp.</text:p>"
    ),
    shows("characters turned upwards", "Sold at the gate", rows=(("Slipway",),)): fodt(
        f"<text:p>{marked('Slipway')}</text:p><text:p>Sold at the gate.</text:p>",
        text_style('style:text-rotation-angle="90" style:text-rotation-scale="line-height"'),
    ),
    shows("a drop cap of three lines", "Fishermen", "return at dawn", hidden=("ishermen", "F ishermen")): fodt(
        f'<text:p text:style-name="marked">Fishermen return at dawn. {FILLER * 3}</text:p>',
        paragraph_style("", '<style:drop-cap style:lines="3" style:length="1" style:distance="0.1cm"/>'),
    ),
    shows("a soft hyphen at the edge of a line", "quarantine", "Sold at the gate",
          hidden=("quaran- tine", "quaran tine")): fodt(
        '<text:p text:style-name="marked">Free of quaran\u00adtine</text:p><text:p>Sold at the gate.</text:p>',
        paragraph_style('fo:margin-right="13.4cm"'),
    ),
    shows("justified lines", "The wharfinger keeps the keys of the bonded warehouse",
          hidden=("thekeys", "keysof")): fodt(
        f'<text:p text:style-name="marked">The wharfinger keeps the keys of the bonded warehouse. {FILLER}</text:p>',
        paragraph_style('fo:text-align="justify" fo:margin-right="9cm"'),
    ),
    shows("wide letters in a heading", "ADMIRALTY", hidden=("A D M",)): fodt(
        f"<text:p>{marked('ADMIRALTY')}</text:p>", text_style('fo:letter-spacing="0.2cm"')
    ),
    shows("a hidden paragraph", "Sold at the gate", hidden=("smuggler",)): fodt(
        f"<text:p>{marked('smuggler')}</text:p><text:p>Sold at the gate.</text:p>", text_style('text:display="none"')
    ),
    shows("a hidden section", "Sold at the gate", hidden=("smuggler",)): fodt(
        '<text:section text:name="secret" text:display="none"><text:p>smuggler</text:p></text:section>'
        "<text:p>Sold at the gate.</text:p>"
    ),
    shows("struck characters", "old fare", "forty", "new fare"): fodt(
        f"<text:p>The old fare was {marked('forty')}, the new fare fifty.</text:p>",
        text_style('style:text-line-through-style="solid"'),
    ),
    shows("lowered characters", "CO2", "by tanker"): fodt(
        f"<text:p>We carry CO{marked('2')} by tanker.</text:p>", text_style('style:text-position="sub 58%"')
    ),
    shows("Hebrew lines from the right", "נמל", "רציף 27", "סגור"): fodt(
        '<text:p text:style-name="marked">נמל הדיג</text:p><text:p text:style-name="marked">רציף 27 סגור היום</text:p>',
        paragraph_style('style:writing-mode="rl-tb"'),
    ),
    shows("spaces and tabs in code", "def berth(ship):", "return ship", hidden=("defberth", "returnship")): fodt(
        '<text:p>def berth(ship):</text:p><text:p><text:s text:c="4"/>return ship</text:p>'
    ),
    shows("a word broken by a line break in a cell", "Northern", "basin", rows=(("Northern", "basin", "514"),),
          hidden=("Northernbasin",)): fodt(
        '<table:table><table:table-column table:number-columns-repeated="2"/>'
        f"{fodt_rows(('Northern<text:line-break/>basin', '514'))}</table:table>",
        CELL,
    ),
}  # fmt: skip


def cases(folder: Path) -> Iterator[Case]:
    """Write the PDF files and yield their cases."""
    register_fonts()
    for feature, drawing in DRAWN.items():
        yield save(folder, "ReportLab", feature, "pdf", draw_with_reportlab(drawing))
    for feature, content in lay_out():
        yield save(folder, "ReportLab", feature, "pdf", content)
    yield from convert_with_libreoffice(folder, WRITTEN, "fodt", ["pdf"])
    with tempfile.TemporaryDirectory() as scratch:
        for feature, page in PRINTED.items():
            yield save(folder, "Chromium", feature, "pdf", print_with_chromium(page, Path(scratch)))
