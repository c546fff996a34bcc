"""What a person sees of Markdown, and where it stands in the file."""

from __future__ import annotations

import pytest
from tests.server.features.readers.reading import Reading

SEEN = {
    "a comment": ("<!-- secret -->\nA lamp.", "\nA lamp."),
    "a comment in a line": ("A <!-- secret -->lamp<!-- -->.", "A lamp."),
    "a comment of several lines": ("<!-- one\n\n## Secret\n-->\nA lamp.", "\nA lamp."),
    "a comment that does not end": ("A lamp <!-- of\nbrass", "A lamp <!-- of\nbrass"),
    "a comment in code": ("```html\n<!-- shown -->\n```", "```html\n<!-- shown -->\n```"),
    "a comment as a reference": ("[//]: # (secret)\nA lamp.", "\nA lamp."),
    "a link reference": ("[lamp]: https://example.org/x", "[lamp]: https://example.org/x"),
    "a table": (
        "<table>\n<tr><td>A-01\n</td><td>23</td></tr>\n<tr><td>B-07</td><td>18</td></tr>\n</table> <b>End</b>",
        "A-01 | 23\nB-07 | 18 End",
    ),
    "a table that does not end": ("<table>\n<tr><td>A-01", "<table>\n<tr><td>A-01"),
    "a block": ('<p align="center">\n<b>A lamp</b>\n</p>\n', "\nA lamp\n\n"),
    "details": ("<details>\n<summary>Fees</summary>\n\n23 crowns\n</details>\n", "\nFees\n\n23 crowns\n\n"),
    "keys and a line break": ("Press <kbd>Ctrl</kbd>+<kbd>C</kbd><br/>twice.", "Press Ctrl+C twice."),
    "a picture": ('<img src="x.png" alt="A lamp"> of <img src=y> brass', "A lamp of  brass"),
    "a picture within the text": ("![A lamp](data:image/png;base64,iVBORw0KGgo=)", "![A lamp]()"),
    "tags within code": ("Write `<b>` and ``<br>``, not <b>bold</b>.", "Write `<b>` and ``<br>``, not bold."),
    "a grave accent alone": ("A ` and <b>bold</b>", "A ` and bold"),
    "words in angle brackets": ("List<String> of <your-name> at <https://example.org>", "List<String> of <your-name> at <https://example.org>"),
    "a less-than sign": ("a < b and c > d", "a < b and c > d"),
    "a note of MkDocs": ('!!! warning "Low tide"\n    A lamp.', "Low tide:\n    A lamp."),
    "a folded note without a title": ("???+ note\n    A lamp.", "Note:\n    A lamp."),
    "exclamation marks": ("!!! is loud", "!!! is loud"),
    "a hard line break": ("Quay 4\\\nLund", "Quay 4\nLund"),
    "an escaped backslash": ("C:\\\\\nLund", "C:\\\\\nLund"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SEEN)
async def test_the_text_is_what_a_person_sees(read: Reading, kind: str) -> None:
    source, text = SEEN[kind]
    parts = await read("a.md", source.encode())
    assert "".join(part.text for part in parts) == text


async def test_headings_are_read_without_their_attributes_and_tags(read: Reading) -> None:
    source = '<h1 align="center">Harbour <b>rules</b></h1>\n\nA.\n\n## Fees {#fees .wide}\n\nB.\n\n## Keys {x}\n\nC.\n'
    parts = await read("a.md", source.encode())
    assert [(part.place.heading, part.place.line, part.text) for part in parts] == [
        (("Harbour rules",), 1, "# Harbour rules\n\nA.\n\n"),
        (("Harbour rules", "Fees"), 5, "## Fees\n\nB.\n\n"),
        (("Harbour rules", "Keys {x}"), 9, "## Keys {x}\n\nC.\n"),
    ]


async def test_lines_are_counted_in_the_file(read: Reading) -> None:
    source = "<!--\n\n\n-->\n<table>\n<tr><td>A\n\n</table>\n\n# Fees\n\nB.\n"
    parts = await read("a.md", source.encode())
    assert [(part.place.line, part.text) for part in parts] == [(1, "\nA\n\n"), (10, "# Fees\n\nB.\n")]
