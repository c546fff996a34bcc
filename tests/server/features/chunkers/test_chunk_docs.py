"""The pages about chunkers and formats match the tables in the code."""

import re
from pathlib import Path

from portico_server.features.chunkers.chunkers import STRATEGIES
from portico_server.features.readers.formats import FORMATS

DOCS = Path(__file__).parents[4] / "docs"


def test_the_documented_chunker_table_matches_the_code() -> None:
    rows = "\n".join(f"| `{s.name}` | {s.description} | {s.size} | {s.overlap} |" for s in STRATEGIES)
    assert rows in (DOCS / "chunkers.md").read_text(encoding="utf-8"), f"the table must be:\n{rows}"


def test_every_file_name_suffix_is_documented() -> None:
    page = (DOCS / "formats.md").read_text(encoding="utf-8")
    documented_suffixes = set(
        re.findall(
            r"[a-z0-9]+", " ".join(line.split("|")[2] for line in page.splitlines() if line.count("|") == 5)
        )
    )
    for form in FORMATS:
        if form.name != "code":
            assert form.suffixes <= documented_suffixes, form.name
