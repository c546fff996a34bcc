"""Features of web pages, as people write them and as browsers save them, and the same in electronic books."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from ebooklib import epub

from document_features.case import Case, Feature, save

_START, _END = "The mole is closed", "Boats leave at dawn"
_DOT = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
_FEATURES: dict[Feature, str] = {
    Feature(
        "inline elements in a word", (_START, "unmoored", _END), hidden=("un moored",)
    ): "<p>Un<b>moor</b>ed boats.</p>".replace("Un", "un"),
    Feature(
        "a line break", (_START, "Quay 4", "22100 Lund", _END), hidden=("422100",)
    ): "<p>Quay 4<br>22100 Lund</p>",
    Feature(
        "divisions as paragraphs", (_START, "gravel", "granite", _END), hidden=("gravelgranite",)
    ): "<div>gravel</div><div>granite</div>",
    Feature(
        "text beside a division",
        (_START, "gravel", "granite", "slate", _END),
        hidden=("gravelgranite", "graniteslate"),
    ): "<div>gravel<div>granite</div>slate</div>",
    Feature(
        "a numbered list", (_START, "Report first", "Pay then", _END)
    ): "<ol><li>Report first<li>Pay then</ol>",
    Feature(
        "a list that starts at four", (_START, "4", "Lock the gate", "5", "Leave", _END)
    ): '<ol start="4"><li>Lock the gate</li><li>Leave</li></ol>',
    Feature(
        "a nested list", (_START, "Ropes", "hemp", "nylon", "Fenders", _END), hidden=("Ropeshemp",)
    ): "<ul><li>Ropes<ul><li>hemp</li><li>nylon</li></ul></li><li>Fenders</li></ul>",
    Feature(
        "a definition list", (_START, "Fairway", "The deep channel", _END), hidden=("FairwayThe",)
    ): "<dl><dt>Fairway</dt><dd>The deep channel</dd></dl>",
    Feature(
        "a table", (_START, "Berth", "Fee", _END), (("A-01", "23"), ("B-07", "18"))
    ): "<table><tr><th>Berth</th><th>Fee</th></tr><tr><td>A-01</td><td>23</td></tr><tr><td>B-07</td><td>18</td></tr></table>",
    Feature(
        "a table with a caption", (_START, "Fees of March", _END), (("A-01", "23"),)
    ): "<table><caption>Fees of March</caption><tr><td>A-01</td><td>23</td></tr></table>",
    Feature(
        "a cell over two rows", (_START, "Pontoon", _END), (("North", "A-01"), ("North", "A-02"))
    ): '<table><tr><th>Pontoon</th><th>Berth</th></tr><tr><td rowspan="2">North</td><td>A-01</td></tr><tr><td>A-02</td></tr></table>',
    Feature(
        "a cell over two columns", (_START, "Summer", "June", "July", _END), (("31", "32"),)
    ): '<table><tr><th colspan="2">Summer</th></tr><tr><th>June</th><th>July</th></tr><tr><td>31</td><td>32</td></tr></table>',
    Feature(
        "a row heading", (_START, "Length", _END), (("Length", "12 m"),)
    ): '<table><tr><th scope="row">Length</th><td>12 m</td></tr></table>',
    Feature(
        "paragraphs in a cell", (_START, "lit", "guarded", _END), (("A-01", "lit"),), ("litguarded",)
    ): "<table><tr><td>A-01</td><td><p>lit</p><p>guarded</p></td></tr></table>",
    Feature(
        "a list in a cell", (_START, "hose", "socket", _END), (("A-01", "hose"),), ("hosesocket",)
    ): "<table><tr><td>A-01</td><td><ul><li>hose</li><li>socket</li></ul></td></tr></table>",
    Feature(
        "a table in a table", (_START, "inner berth", "inner fee", _END)
    ): "<table><tr><td>Outer</td><td><table><tr><td>inner berth</td><td>inner fee</td></tr></table></td></tr></table>",
    Feature(
        "an empty cell", (_START, _END), (("A-02", "28"),)
    ): "<table><tr><th>Berth</th><th>Length</th><th>Fee</th></tr><tr><td>A-01</td><td></td><td>23</td></tr><tr><td>A-02</td><td></td><td>28</td></tr></table>",
    Feature(
        "rows with a body and a foot", (_START, _END), (("A-01", "23"), ("Total", "41"))
    ): "<table><thead><tr><th>Berth</th><th>Fee</th></tr></thead><tbody><tr><td>A-01</td><td>23</td></tr></tbody><tfoot><tr><td>Total</td><td>41</td></tr></tfoot></table>",
    Feature(
        "preformatted text", (_START, "moor --berth A-01", "    --night", _END)
    ): "<pre>moor --berth A-01\n    --night</pre>",
    Feature(
        "highlighted code", (_START, "if wind: reef()", _END)
    ): '<pre><code><span class="k">if</span> <span class="n">wind</span>: <span class="n">reef</span>()</code></pre>',
    Feature(
        "alternative text", (_START, "lighthouse on a rock", _END)
    ): f'<p>See <img src="data:image/gif;base64,{_DOT}" alt="lighthouse on a rock"> here.</p>',
    Feature(
        "a figure with a caption", (_START, "The old crane", _END)
    ): f'<figure><img src="data:image/gif;base64,{_DOT}" alt=""><figcaption>The old crane</figcaption></figure>',
    Feature(
        "ruby", (_START, "図書館", "としょかん", _END), hidden=("図書館としょかん",)
    ): "<p><ruby>図書館<rt>としょかん</rt></ruby>へ</p>",
    Feature(
        "ruby with parentheses", (_START, "図書館", "としょかん", _END), hidden=("図書館としょかん",)
    ): "<p><ruby>図書館<rp>(</rp><rt>としょかん</rt><rp>)</rp></ruby>へ</p>",
    Feature("a script", (_START, _END), hidden=("smuggler",)): "<script>var smuggler = 1;</script>",
    Feature("a style sheet", (_START, _END), hidden=("smuggler",)): "<style>.smuggler { color: red }</style>",
    Feature("a comment of the source", (_START, _END), hidden=("smuggler",)): "<!-- smuggler -->",
    Feature("the attribute hidden", (_START, _END), hidden=("smuggler",)): "<p hidden>smuggler</p>",
    Feature(
        "an element that is not displayed", (_START, _END), hidden=("smuggler",)
    ): '<p style="display:none">smuggler</p>',
    Feature(
        "an invisible element", (_START, _END), hidden=("smuggler",)
    ): '<p style="visibility: hidden">smuggler</p>',
    Feature("a template", (_START, _END), hidden=("smuggler",)): "<template><p>smuggler</p></template>",
    Feature(
        "details that are closed", (_START, "Opening hours", "from six", _END)
    ): "<details><summary>Opening hours</summary><p>from six</p></details>",
    Feature(
        "a value of a text field", (_START, "Lindqvist", _END)
    ): '<form><label>Skipper <input type="text" value="Lindqvist"></label></form>',
    Feature(
        "a hidden field", (_START, _END), hidden=("smuggler",)
    ): '<form><input type="hidden" value="smuggler"></form>',
    Feature(
        "a chosen option", (_START, "North", _END)
    ): "<form><select><option>South</option><option selected>North</option></select></form>",
    Feature(
        "text of a text area", (_START, "arrives late", _END)
    ): "<form><textarea>arrives late</textarea></form>",
    Feature("a button", (_START, "Book a berth", _END)): "<button>Book a berth</button>",
    Feature("named character references", (_START, "5 – 7 € ½", _END)): "<p>5 &ndash; 7 &euro; &frac12;</p>",
    Feature("characters escaped twice", (_START, "a < b & c", _END)): "<p>a &lt; b &amp; c</p>",
    Feature("a no-break space", (_START, "12 knots", _END), hidden=("12knots",)): "<p>12&nbsp;knots</p>",
    Feature(
        "a soft hyphen", (_START, "harbourmaster", _END), hidden=("harbour master",)
    ): "<p>harbour&shy;master</p>",
    Feature(
        "a place for a line break", (_START, "harbourmaster", _END), hidden=("harbour master",)
    ): "<p>harbour<wbr>master</p>",
    Feature(
        "a link", (_START, "the tide tables", _END)
    ): '<p>See <a href="https://example.org/x">the tide tables</a>.</p>',
    Feature(
        "a raised reference", (_START, "23 crowns", "without power", _END), hidden=("crowns1", "crowns.1")
    ): '<p>It costs 23 crowns.<sup><a href="#n1">1</a></sup></p><p id="n1">1 without power</p>',
    Feature("a subscript", (_START, "tanks of H2O", _END)): "<p>Two tanks of H<sub>2</sub>O.</p>",
    Feature(
        "MathML", (_START, "4711", _END)
    ): '<p>Depth <math xmlns="http://www.w3.org/1998/Math/MathML"><mi>x</mi><mo>=</mo><mn>4711</mn></math>.</p>',
    Feature(
        "text in a drawing", (_START, "slack water", _END)
    ): '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="20"><text x="1" y="15">slack water</text></svg>',
    Feature(
        "deleted and inserted text", (_START, "forty crowns", _END)
    ): "<p>It costs <del>ninety</del> <ins>forty crowns</ins>.</p>",
    Feature(
        "an abbreviation", (_START, "LOA", _END)
    ): '<p>The <abbr title="length over all">LOA</abbr> counts.</p>',
    Feature(
        "headings of three levels", (_START, "Berths", "Fees of berths", "crowns", _END)
    ): "<h2>Berths</h2><h3>Fees of berths</h3><p>23 crowns</p>",
    Feature(
        "a heading with a link", (_START, "Keys", "with the master", _END)
    ): '<h2><a id="keys"></a>Keys</h2><p>with the master</p>',
    Feature(
        "an address", (_START, "Quay 4", "Lund", _END), hidden=("4Lund",)
    ): "<address>Quay 4<br>Lund</address>",
    Feature(
        "a quotation", (_START, "Never sail alone", _END)
    ): "<blockquote><p>Never sail alone.</p></blockquote>",
    Feature("a frame within the page", (_START, _END)): '<iframe src="about:blank"></iframe>',
    Feature("text for readers without scripts", (_START, _END)): "<noscript>Switch scripts on.</noscript>",
    Feature(
        "Chinese text", (_START, "泊位每晚二十三克朗", _END)
    ): "<p>泊位每晚<br>\n</p><p>泊位每晚二十三克朗。</p>",
    Feature("Arabic text", (_START, "ميناء", _END)): '<p dir="rtl">ميناء</p>',
    Feature("navigation", (_START, _END)): "<nav><ul><li><a href='/'>Home</a></li></ul></nav>",
    Feature(
        "a progress bar", (_START, "70 %", _END)
    ): '<p>Full: <progress max="100" value="70">70 %</progress> 70 %</p>',
}
_ONLY_PAGES = {"text for readers without scripts", "a frame within the page"}
_ENCODINGS = {
    Feature("windows-1252 named in the page", (_START, "Größe", _END)): ("windows-1252", "<p>Größe</p>"),
    Feature("GB18030 named in the page", (_START, "泊位", _END)): ("gb18030", "<p>泊位</p>"),
    Feature("Shift-JIS named in the page", (_START, "図書館", _END)): ("shift_jis", "<p>図書館</p>"),
    Feature("KOI8-R named in the page", (_START, "причал", _END)): ("koi8-r", "<p>причал</p>"),
}


def _page(body: str, charset: str = "utf-8") -> str:
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="{charset}"><title>Handbook</title></head><body>'
        f"<h1>Harbour rules</h1><p>The mole is closed.</p>{body}<p>Boats leave at dawn.</p></body></html>"
    )


def _book(body: str) -> bytes:
    book = epub.EpubBook()
    book.set_identifier("handbook")
    book.set_title("Handbook")
    book.set_language("en")
    chapter = epub.EpubHtml(title="Harbour rules", file_name="rules.xhtml", lang="en")
    chapter.content = f"<h1>Harbour rules</h1><p>The mole is closed.</p>{body}<p>Boats leave at dawn.</p>"
    book.add_item(chapter)
    book.toc = [chapter]
    book.spine = ["nav", chapter]
    book.add_item(epub.EpubNcx())
    book.add_item(epub.EpubNav())
    data = io.BytesIO()
    epub.write_epub(data, book)
    return data.getvalue()


def cases(folder: Path) -> Iterator[Case]:
    """Write the pages and the books."""
    for feature, body in _FEATURES.items():
        yield save(folder, "source", feature, "html", _page(body))
        if feature.name not in _ONLY_PAGES:
            yield save(folder, "ebooklib", feature, "epub", _book(body))
    for feature, (charset, body) in _ENCODINGS.items():
        yield save(folder, "source", feature, "html", _page(body, charset).encode(charset))
