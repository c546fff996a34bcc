"""Measures whether changed claims are recognised, and citations are correct: ``python bench/claims.py --data FOLDER``.

FOLDER holds sets as for `answers.py`. The passages are those that a store's search finds for a question, as a chat app
is given them; the claims are made of the question, its gold sentence and its answer (`altered_claims.py`). What was
tuned was tuned on the articles of the dev half.

``marked``: true claims without evidence. ``number`` … ``answer``: changed claims of the kind that are caught.
``elsewhere``: true claims that are caught once the passages with their gold sentence are taken away. Citation recall
and precision are those of ALCE (Gao et al. 2023, arXiv:2305.14627) over true claims: a claim has recall 1 if its
citations together support it; a citation of such a claim is precise unless it alone does not support it and the others
without it do. What supports a claim is decided by our own check, and by whether a quotation holds the gold sentence or
is within it. ``page``: evidence of an article as a PDF, a paragraph a page, whose page is that of the gold paragraph.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from altered_claims import CHANGES, MadeClaim, made, names_in
from answer_weights import Vectors
from answers import DATA, Asked, Collection, is_dev, make_store, read_all, sample
from harness import HERE, Report, call, daemon

from portico.wire import AnswerClaim, Evidence, Passage, passage_from_json
from portico_server.features.answers.claims import EvidenceCheck
from portico_server.features.answers.judge import SEARCH_RESULTS
from portico_server.features.answers.sentences import Sentence
from portico_server.features.answers.terms import has_cjk

sys.path.insert(0, str(HERE.parent))

from tests.server.features.readers.documents import pdf  # must follow the change of the path

LINE_CHARS = 64
"""Line length of the PDFs, in characters."""

Judge = Callable[[MadeClaim, Sequence[Evidence]], bool]
"""True if pieces of evidence together support a claim."""


def searched(url: str, store: str, question: str) -> tuple[Passage, ...]:
    """Return the passages that a chat app over the store receives."""
    body = {"query": question, "max_num_results": SEARCH_RESULTS}
    hits = call(f"{url}/api/stores/{store}/search", body)["data"]
    return tuple(replace(passage_from_json(hit), rank=rank) for rank, hit in enumerate(hits, 1))


def make_paged_store(url: str, data: Collection, folder: Path) -> dict[str, tuple[str, int]]:
    """Create a store ``NAME-pages`` of PDFs, one for each article with a page per document; return each document's
    place.
    """
    articles: dict[int, list[str]] = defaultdict(list)
    for asked in data.questions:
        if asked.document not in articles[asked.article]:
            articles[asked.article].append(asked.document)
    folder.mkdir()
    found: dict[str, tuple[str, int]] = {}
    for article, documents in articles.items():
        pages = ["\n".join(_lines(data.documents[document])) for document in documents]
        (folder / f"{article}.pdf").write_bytes(pdf(*pages))
        found |= {document: (f"{article}.pdf", page) for page, document in enumerate(documents, 1)}
    name = f"{data.name}-pages"
    call(f"{url}/api/stores", {"name": name, "folder": str(folder)})
    run = call(f"{url}/api/stores/{name}/sync", {})["run"]
    urllib.request.urlopen(f"{url}/api/runs/{run}/events", timeout=3600).read()  # the events end with the run
    return found


def _lines(text: str) -> list[str]:
    if has_cjk(text):
        return [text[at : at + LINE_CHARS] for at in range(0, len(text), LINE_CHARS)]
    return textwrap.wrap(text, LINE_CHARS)


class Checks:
    """Checks of claims as in a chat app, with the vectors of the installed model."""

    def __init__(self) -> None:
        self._vectors = Vectors()
        self.seconds: list[float] = []

    def over(self, passages: Sequence[Passage]) -> Callable[[str], AnswerClaim]:
        check = EvidenceCheck(passages)
        if check.texts():
            check.use(self._packed(check.texts()))

        def of(text: str) -> AnswerClaim:
            [vector] = self._packed([text])
            begin = time.perf_counter()
            found = check.check(Sentence(0, len(text), text), vector)
            self.seconds.append(time.perf_counter() - begin)
            return found

        return of

    def own(self, claim: MadeClaim, evidence: Sequence[Evidence]) -> bool:
        """Judge with our own check and only the cited evidence (a `Judge`)."""
        cited = [
            Passage(rank, 1.0, one.quote, one.file_id, one.filename, replace(one.place, heading=()))
            for rank, one in enumerate(evidence, 1)
        ]
        return bool(cited) and self.over(cited)(claim.text).supported

    def _packed(self, texts: Sequence[str]) -> list[bytes]:
        return [vector.astype("<f4").tobytes() for vector in self._vectors.of(texts)]


def gold(claim: MadeClaim, evidence: Sequence[Evidence]) -> bool:
    """Judge whether a quotation contains the gold sentence or is part of it (a `Judge`)."""
    return any(one.quote in claim.sentence or claim.sentence in one.quote for one in evidence)


def citations(claim: MadeClaim, evidence: Sequence[Evidence], judge: Judge) -> tuple[bool, list[bool]]:
    """Return a claim's recall and the precision of each of its citations, as ALCE defines them."""
    if not judge(claim, evidence):
        return False, [False for _one in evidence]

    def is_precise(number: int) -> bool:
        rest = [*evidence[:number], *evidence[number + 1 :]]
        return judge(claim, evidence[number : number + 1]) or not judge(claim, rest)

    return True, [is_precise(number) for number in range(len(evidence))]


def claims_of(data: Collection, questions: Sequence[Asked]) -> Iterator[tuple[Asked, list[MadeClaim]]]:
    """Yield each question with the claims made from it."""
    asked_of: dict[str, list[Asked]] = defaultdict(list)
    for asked in data.questions:
        asked_of[asked.document].append(asked)
    names = [
        (document, name)
        for document in dict.fromkeys(asked.document for asked in questions)
        for name in names_in(data.documents[document])[:3]
    ]
    for asked in questions:
        others = [(one.text, one.answers[0]) for one in asked_of[asked.document] if one.id != asked.id]
        elsewhere = [name for document, name in names if document != asked.document]
        yield asked, list(made(asked, data.documents[asked.document], others, elsewhere))


def measured(
    url: str, data: Collection, questions: Sequence[Asked], pages: Mapping[str, tuple[str, int]]
) -> dict[str, float | int | None]:
    """Return shares over the claims made from the questions."""
    checks = Checks()
    caught: dict[str, list[bool]] = defaultdict(list)
    judges: dict[str, Judge] = {"own": checks.own, "gold": gold}
    recall: dict[str, list[bool]] = defaultdict(list)
    precision: dict[str, list[bool]] = defaultdict(list)
    right_pages: list[bool] = []
    for asked, claims in claims_of(data, questions):
        found = searched(url, data.name, asked.text)
        of = checks.over(found)
        without = [one for one in found if not any(claim.sentence in one.text for claim in claims[:1])]
        of_others = checks.over(without)
        of_paged = checks.over(searched(url, f"{data.name}-pages", asked.text))
        for claim in claims:
            checked = of(claim.text)
            caught["marked" if claim.true else claim.kind].append(not checked.supported)
            if not claim.true:
                continue
            caught["elsewhere"].append(not of_others(claim.text).supported)
            for name, judge in judges.items():
                recalled, precise = citations(claim, checked.evidence, judge)
                recall[name].append(recalled)
                precision[name] += precise
            right_pages += (
                (one.filename, one.place.page) == pages[asked.document]
                for one in of_paged(claim.text).evidence
            )
    return {
        "claims": sum(map(len, caught.values())) - len(caught["elsewhere"]),
        **{name: _share(caught[name]) for name in ("marked", *CHANGES, "elsewhere")},
        **{f"recall {name}": _share(recall[name]) for name in judges},
        **{f"precision {name}": _share(precision[name]) for name in judges},
        "page": _share(right_pages),
        "p50 ms": 1000 * statistics.median(checks.seconds),
    }


def _share(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def main() -> None:
    """Measure the test half of each set's articles, and the dev half on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--questions", type=int, default=300, help="at most, for each row")
    parser.add_argument("--dev", action="store_true", help="also show the half that was tuned on")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sets = read_all(options.data)
    columns = (
        *("documents", "half", "claims", "marked", *CHANGES, "elsewhere"),
        *("recall own", "precision own", "recall gold", "precision gold", "page", "p50 ms"),
    )
    report = Report("Claims", columns)
    with tempfile.TemporaryDirectory() as temporary, daemon(Path(temporary) / "home") as portico:
        for data in sets:
            make_store(portico.url, data.name, data.documents, Path(temporary) / data.name)
            pages = make_paged_store(portico.url, data, Path(temporary) / f"{data.name}-pages")
            for dev in (False, True) if options.dev else (False,):
                questions = [asked for asked in data.questions if is_dev(asked.article) == dev]
                found = measured(portico.url, data, sample(questions, options.questions), pages)
                report.add(documents=data.name, half="dev" if dev else "test", **found)
    report.show(options.json)


if __name__ == "__main__":
    main()
