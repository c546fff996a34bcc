"""Writes all documents: ``python -m document_features.write FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from document_features import flat_text, mail, markup, pages, plain, slides, web, workbooks
from document_features.case import Case, store

MODULES = (flat_text, markup, web, slides, workbooks, mail, plain, pages)


def main() -> None:
    """Write the documents and the list of their cases."""
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    cases: list[Case] = []
    for module in MODULES:
        cases += module.cases(folder)
        print(f"{len(cases)} documents after {module.__name__.rpartition('.')[2]}", file=sys.stderr)
    names = {(case.format, case.writer, case.feature.name) for case in cases}
    assert len(names) == len(cases), "two features have one name"
    store(folder, cases)


if __name__ == "__main__":
    main()
