"""Features of markup: Markdown, which pandoc saves as Word, OpenDocument, EPUB, HTML, slides and notebooks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from document_features.case import RED_SQUARE, Case, Feature, save

_START, _END = "The mole is closed", "Boats leave at dawn"
_FEATURES: dict[Feature, str] = {
    Feature("emphasis", (_START, "never moor here", _END)): "*never* **moor** here.",
    Feature("emphasis in a word", (_START, "unmoored", _END), hidden=("un moored",)): "They are un*moor*ed.",
    Feature("struck text", (_START, "closed on Monday", _END)): "The office is ~~closed on Monday~~.",
    Feature("a superscript", (_START, "crowns", _END), hidden=("crowns7",)): "It costs crowns ^7^.",
    Feature("a subscript", (_START, "tanks of H2O", _END)): "Two tanks of H~2~O.",
    Feature(
        "a footnote", (_START, "The crane", "lifts", "inspected yearly"), hidden=("crane1", "crane 1")
    ): "The crane[^1] lifts.\n\n[^1]: It is inspected yearly.",
    Feature(
        "a footnote at the end of a sentence",
        (_START, "23 crowns", "without power"),
        hidden=("crowns1", "crowns.1"),
    ): ("It costs 23 crowns.^[This is without power.]"),
    Feature("a link", (_START, "the tide tables", _END)): "See [the tide tables](https://example.org/x).",
    Feature("a picture with alternative text", (_START, "lighthouse on a rock", _END)): (
        "See ![lighthouse on a rock](red.png) here."
    ),
    Feature("a figure with a caption", (_START, "The old crane", _END)): "![The old crane](red.png)",
    Feature("a bullet list", (_START, "hemp ropes", "nylon ropes", _END)): "- hemp ropes\n- nylon ropes",
    Feature("a numbered list", (_START, "Report first", "Pay then", _END)): "1. Report first\n2. Pay then",
    Feature(
        "a nested list", (_START, "Ropes", "hemp", "nylon", "Fenders", _END)
    ): "- Ropes\n    - hemp\n    - nylon\n- Fenders",
    Feature("a list with paragraphs", (_START, "Ropes", "Check them weekly", "Fenders", _END)): (
        "- Ropes\n\n  Check them weekly.\n\n- Fenders"
    ),
    Feature("a list that starts at four", (_START, "4", "Lock the gate", _END)): "4. Lock the gate\n5. Leave",
    Feature(
        "a task list", (_START, "check the winch", "grease the crane", _END)
    ): "- [x] check the winch\n- [ ] grease the crane",
    Feature(
        "a definition list", (_START, "Fairway", "The deep channel", _END)
    ): "Fairway\n:   The deep channel.",
    Feature(
        "a line block", (_START, "Quay 4", "22100 Lund", _END), hidden=("422100",)
    ): "| Quay 4\n| 22100 Lund",
    Feature("a quotation", (_START, "Never sail alone", _END)): "> Never sail alone.",
    Feature("a block of code", (_START, "moor --berth A-01", "# not a heading", _END)): (
        "```sh\nmoor --berth A-01\n# not a heading\n```"
    ),
    Feature("code in a line", (_START, "Run moor -v now", _END)): "Run `moor -v` now.",
    Feature(
        "indentation of code", (_START, "if wind:", "    reef()", _END)
    ): "```python\nif wind:\n    reef()\n```",
    Feature("a table", (_START, "Berth", "Fee", "A-01", "23", _END), (("A-01", "23"), ("B-07", "18"))): (
        "| Berth | Fee |\n|---|---|\n| A-01 | 23 |\n| B-07 | 18 |"
    ),
    Feature("a table with a caption", (_START, "Fees of March", _END), (("A-01", "23"),)): (
        "| Berth | Fee |\n|---|---|\n| A-01 | 23 |\n\n: Fees of March"
    ),
    Feature("an empty cell in a table", ("Berth", "Fee"), (("A-02", "28"),)): (
        "| Berth | Length | Fee |\n|---|---|---|\n| A-01 |  | 23 |\n| A-02 |  | 28 |"
    ),
    Feature("a table without a header", (_START, _END), (("A-01", "23"), ("B-07", "18"))): (
        "------ ----\nA-01   23\nB-07   18\n------ ----"
    ),
    Feature(
        "a cell with two paragraphs", (_START, "lit", "guarded", _END), (("A-01", "lit"),), ("litguarded",)
    ): (
        "+------+---------+\n| Berth| Notes   |\n+======+=========+\n| A-01 | lit     |\n|      |         |\n"
        "|      | guarded |\n+------+---------+"
    ),
    Feature("a list in a cell", (_START, "hose", "socket", _END), hidden=("hosesocket",)): (
        "+------+----------+\n| Berth| Notes    |\n+======+==========+\n| A-01 | - hose   |\n|      | - socket |\n"
        "+------+----------+"
    ),
    Feature("a link in a cell", (_START, "tide tables", _END), (("A-01", "tide tables"),)): (
        "| Berth | See |\n|---|---|\n| A-01 | [tide tables](https://example.org/x) |"
    ),
    Feature("headings of three levels", (_START, "Berths", "Fees of berths", "crowns", _END)): (
        "## Berths\n\n### Fees of berths\n\n23 crowns."
    ),
    Feature("a formula in a line", (_START, "depth", "4711", _END)): "The depth is $x = 4711$.",
    Feature("a fraction", (_START, "4711", _END)): "$$y = \\frac{a}{4711}$$",
    Feature("a rule", (_START, "After the rule", _END)): "* * *\n\nAfter the rule.",
    Feature(
        "a hard line break", (_START, "Quay 4", "22100 Lund", _END), hidden=("422100",)
    ): "Quay 4\\\n22100 Lund",
    Feature("a no-break space", (_START, "12 knots", _END), hidden=("12knots",)): "It makes 12&nbsp;knots.",
    Feature("quotation marks and dashes", (_START, "“slow”", "5–7", _END)): '"slow" at 5--7 knots.',
    Feature("characters of markup", (_START, "a < b & c > d * e_f", _END)): "a < b & c > d \\* e\\_f",
    Feature("small capitals", (_START, "Notice", _END)): "[Notice]{.smallcaps} of boarding.",
    Feature(
        "a division", (_START, "Warning: strong current", _END)
    ): "::: warning\nWarning: strong current.\n:::",
    Feature("Chinese text", (_START, "泊位每晚二十三克朗", _END)): "泊位每晚二十三克朗。",
    Feature("Arabic text", (_START, "ميناء", _END)): "ميناء",
    Feature("a comment of the source", (_START, _END), hidden=("smuggler",)): "<!-- smuggler -->",
    Feature(
        "two footnotes in a paragraph", (_START, "gravel", "granite")
    ): "One^[of gravel] and two^[of granite].",
    Feature("a title, author and date", ("Harbour handbook", "Ahlgren", "2026", _START, _END)): "Text.",
}
_TITLE = "---\ntitle: Harbour handbook\nauthor: Ms. Ahlgren\ndate: 15 March 2026\n---\n\n"
_WRITERS = {
    "docx": ("docx",),
    "odt": ("odt",),
    "epub": ("epub3",),
    "html": ("html5", "--standalone", "--mathml"),
    "ipynb": ("ipynb",),
    "pptx": ("pptx", "--slide-level=1"),
}
_LEFT_OUT = {
    "pptx": {
        # Slides have no comment of the source, and pandoc writes none of these.
        "headings of three levels",
        "a division",
        "a rule",
    },
    "ipynb": {"a title, author and date", "a comment of the source"},
}


def cases(folder: Path) -> Iterator[Case]:
    """Write the documents in each format."""
    for suffix, (name, *options) in _WRITERS.items():
        for feature, source in _FEATURES.items():
            if feature.name in _LEFT_OUT.get(suffix, ()):
                continue
            title = _TITLE if feature.name.startswith("a title") else "---\ntitle: Handbook\n---\n\n"
            if suffix not in ("epub", "html") and "a title" not in feature.name:
                title = ""
            text = f"{title}# Harbour rules\n\nThe mole is closed.\n\n{source}\n\nBoats leave at dawn.\n"
            case = save(folder, "pandoc", feature, suffix, b"")
            picture = case.file.parent / "red.png"
            if not picture.exists():
                picture.write_bytes(RED_SQUARE)
            subprocess.run(
                ["pandoc", f"--to={name}", *options, "--from=markdown", f"--output={case.file.name}"],
                input=text.encode(),
                check=True,
                capture_output=True,
                cwd=case.file.parent,
                timeout=60,
            )
            yield case
