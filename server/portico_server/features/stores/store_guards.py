"""Questions that guard a store: they are searched with and without each change of the store's files.

A change that turns answers wrong is held until somebody accepts or rejects it, or is accepted with a warning, as the
store's rule says. No model judges: an answer counts if its passage or its facts are among the first `RANK_DEPTH` hits,
and no new passage among them answers the question with another value.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final, Literal

from portico._read import read
from portico.schemas.store_guards import ReviewedPassage, StoreReview, UnjudgedQuestion, WrongAnswer
from portico.wire import JSON, Passage, Progressed
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import Search
from portico_server.db import chunks, guard_questions, store_reviews
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.guard_questions import GuardQuestionRow
from portico_server.db.reviewed_files import Review, ReviewedFile, reviewed_files
from portico_server.db.stores import StoreRow
from portico_server.features.files.files import FileStorage
from portico_server.features.stores.calibrate import RANK_DEPTH
from portico_server.features.stores.contradictions import contradictions, is_about, states
from portico_server.features.stores.default_reranker import DefaultReranker
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.search import Searcher

RULES: Final = ("hold", "warn", "off")
"""What happens to a change that turns answers wrong: it is held, accepted with a warning, or not checked."""

MAX_QUESTIONS: Final = 500
"""Maximum number of guard questions per store."""

MAX_QUESTION_CHARS: Final = 2_000

MAX_PASSAGE_CHARS: Final = 4_000
"""Maximum length of a quoted passage or of a fact, in characters."""

MAX_FACTS: Final = 10
"""Maximum number of facts per question."""

MAX_NAMED_FILES: Final = 100
"""Maximum number of file names in a report."""

_FIELDS: Final = ("question", "file", "passage", "facts")


@dataclass(frozen=True, slots=True)
class SearchedAnswer:
    """The hits of a question in one state of the store. ``hit`` is the one with the answer, or ``None``."""

    hits: Sequence[Passage]
    hit: Passage | None

    @property
    def judgement(self) -> tuple[bool, list[str]]:
        """The judgement in the form in which the question stores it."""
        return self.hit is not None, sorted({hit.file_id for hit in self.hits})


class StoreGuards:
    """The guard questions of all stores, and the reviews of changes."""

    def __init__(
        self, database: Database, files: FileStorage, indexes: IndexManager, registry: Registry
    ) -> None:
        self._database = database
        self._files = files
        self._indexes = indexes
        self._registry = registry
        self._reranker = DefaultReranker(registry)

    async def add(
        self, store: StoreRow, items: Sequence[Mapping[str, Any]], caller: Principal, context: Context
    ) -> Sequence[GuardQuestionRow]:
        """Add questions to a store, all or none, and judge them.

        Raise `InvalidRequest` for the first question without an expected answer, or whose passage is not in its file,
        and `TooLarge` if the questions exceed the storage limit of the store's owner.
        """
        question_rows = [
            check_question(item, f"questions[{number}]", store.id, caller)
            for number, item in enumerate(items)
        ]
        for number, row in enumerate(question_rows):
            await self._require_passage(store, row, f"questions[{number}]")
        texts = [text for row in question_rows for text in (row.question, row.passage, *row.facts)]
        await self._files.take_room(store.owner, sum(map(len, texts)))
        judged_rows = []
        for row in question_rows:
            answer = await self._judge(store, row, context, "new" if store.has_review else None)
            passes, hit_files = answer.judgement
            judged_rows.append(replace(row, passes=passes, hit_files=hit_files))
        if not await self._database.write(guard_questions.add, judged_rows, MAX_QUESTIONS):
            raise Conflict(
                f"A store can have {MAX_QUESTIONS} guard questions. Remove some before you add others.",
                code="too_many_questions",
                param="questions",
            )
        return judged_rows

    async def list(self, store: StoreRow) -> Sequence[GuardQuestionRow]:
        """Return the guard questions of a store, oldest first."""
        return await self._database.read(guard_questions.of_store, store.id)

    async def remove(self, store: StoreRow, question_id: str) -> None:
        """Remove a guard question. Raise `NotFound`."""
        if not await self._database.write(guard_questions.remove, store.id, question_id):
            raise NotFound(
                f"The store '{store.name or store.id}' has no guard question '{question_id[:80]}'.",
                code="guard_question_not_found",
                param="question_id",
            )

    async def review(self, store: StoreRow) -> StoreReview:
        """Return the last review of a store's files."""
        row = await self._database.read(store_reviews.of_store, store.id)
        if row is None:
            return StoreReview("waiting" if store.has_review else "none")
        return read(StoreReview, {**row.report, "state": row.state, "created_at": row.created_at})

    async def settle(self, store: StoreRow, state: Literal["accepted", "rejected"]) -> None:
        """Accept or reject the change that a store holds. After a rejection, a store that follows a source is paused,
        because the next sync would bring the change back.

        Raise `Conflict` if the store holds no change.
        """
        digests = await self._database.write(store_reviews.settle, store.id, state)
        if digests is None:
            raise Conflict(
                f"The store '{store.name or store.id}' holds no change. Its last review: "
                f"portico stores guards review {store.name or store.id}",
                code="no_held_change",
                param="store",
            )
        await self._clean_up(store, digests)

    async def check(self, store: StoreRow, context: Context, *, is_repeated: bool) -> dict[str, JSON]:
        """Check the change of a store that waits for it. Return a summary for the result of the run.

        ``is_repeated`` checks a change again that is already held, because its files were read again.
        """
        while (
            store_row := await self._database.read(rows.get, store.id)
        ) is not None and store_row.has_review:
            store = store_row  # read again, because the rule can have changed
            row = await self._database.write(store_reviews.start, store.id, is_repeated=is_repeated)
            if row is None:
                return {}
            change = await self._database.read(reviewed_files, store.id)
            if any(item.status == "in_progress" and item.review == "new" for item in change):
                return {}  # the run that reads these files checks the change
            report, answers = await self._compare(store, change, context)
            is_wrong = bool(report.wrong or report.unjudged)
            state: store_reviews.ReviewState = "passed"
            if is_wrong:
                state = "held" if store.guard == "hold" else "warned"
            plain_report = {
                name: value for name, value in asdict(report).items() if name not in ("state", "created_at")
            }
            ended_row = replace(
                row,
                state=state,
                report=plain_report,
                judgements={name: answer.judgement for name, answer in answers.items()},
                created_at=time.time(),
            )
            digests = await self._database.write(store_reviews.record, ended_row)
            if digests is None:
                continue  # the files or the rule changed during the check
            await self._clean_up(store, digests)
            return {
                "review": state,
                "guard_questions": report.questions,
                "searched_questions": report.searched,
                "wrong_answers": [item.question for item in report.wrong],
            }
        return {}

    async def _compare(
        self, store: StoreRow, change: Sequence[ReviewedFile], context: Context
    ) -> tuple[StoreReview, Mapping[str, SearchedAnswer]]:
        """Return the report on a change, and the answers with the change to the questions that it can affect."""
        question_rows = await self.list(store)
        names = {item.filename for item in change}
        new_ids = {item.file_id for item in change if item.review == "new"}
        old_ids = {item.file_id for item in change if item.review == "old"}
        answers: dict[str, SearchedAnswer] = {}
        wrong: list[WrongAnswer] = []
        unjudged: list[UnjudgedQuestion] = []
        for number, row in enumerate(question_rows, start=1):
            await context.emit(
                Progressed(
                    "check", row.question[:80], done=number, total=len(question_rows), unit="questions"
                )
            )
            try:
                can_change = bool(new_ids) or not old_ids.isdisjoint(row.hit_files)
                if row.file not in names and not (
                    can_change and await self._is_changed(store, row, new_ids, context)
                ):
                    continue
                present_answer = await self._judge(store, row, context, "new")
                new_answer = answers[row.id] = await self._judge(store, row, context, "old")
            except PorticoError as error:
                unjudged.append(UnjudgedQuestion(row.id, row.question, error.message))
                continue
            if present_answer.hit is None:
                continue
            contradicting_hits = _contradicting_hits(row, present_answer, new_answer)
            if new_answer.hit is None or contradicting_hits:
                new_hit = next(iter((*contradicting_hits, *new_answer.hits)), None)
                wrong.append(WrongAnswer(row.id, row.question, _short(present_answer.hit), _short(new_hit)))
        return (
            StoreReview(
                "checking",
                tuple(sorted(item.filename for item in change if item.review == "new"))[:MAX_NAMED_FILES],
                tuple(sorted(item.filename for item in change if item.review == "old"))[:MAX_NAMED_FILES],
                len(question_rows),
                len(answers),
                tuple(wrong),
                tuple(unjudged),
            ),
            answers,
        )

    async def _is_changed(
        self, store: StoreRow, row: GuardQuestionRow, new_ids: Collection[str], context: Context
    ) -> bool:
        """Return whether a change of other files than the expected one can change a judgement.

        One search over the new files and the remaining present hits decides: other passages rank below these hits.
        """
        answer = await self._judge(store, row, context, "old", {*new_ids, *row.hit_files})
        return (answer.hit is not None) != row.passes or any(
            hit.file_id in new_ids and is_about(row.question, hit.text) for hit in answer.hits
        )

    async def _judge(
        self,
        store: StoreRow,
        row: GuardQuestionRow,
        context: Context,
        hidden: Review | None,
        only: Collection[str] | None = None,
    ) -> SearchedAnswer:
        """Search for the answer to a question. For ``hidden`` and ``only``, see `Searcher`."""
        searcher = Searcher(
            store.id,
            store.name or store.id,
            store.embedding_model,
            weight=store.vector_weight,
            links=store.links,
            hidden=hidden,
            only=only,
            condition=lambda _caller: None,
            indexes=self._indexes,
            database=self._database,
            registry=self._registry,
            reranker=self._reranker,
        )
        result = await searcher.search(Search(row.question, RANK_DEPTH), context)
        return SearchedAnswer(result.passages, _answer(row, result.passages))

    async def _require_passage(self, store: StoreRow, row: GuardQuestionRow, param: str) -> None:
        """Raise `InvalidRequest` unless the store contains the file of a question, and the file its passage."""
        if not row.file:
            return
        file_rows = [
            file_row
            for file_row in await self._database.read(rows.named_files, store.id, [row.file])
            if file_row.status == "completed"
        ]
        if not file_rows:
            raise InvalidRequest(
                f"'{param}.file': the store has no indexed file '{row.file[:200]}'.", param=f"{param}.file"
            )
        for file_row in file_rows:
            ordinal = -1
            while page := await self._database.read(chunks.of_file, store.id, file_row.file_id, ordinal):
                ordinal = page[-1].ordinal
                if any(_contains(chunk.text, row.passage) for chunk in page):
                    return
        raise InvalidRequest(
            f"'{param}.passage' is in no passage of '{row.file[:200]}': quote the text as the file has it, "
            "without text of the next passage.",
            param=f"{param}.passage",
        )

    async def _clean_up(self, store: StoreRow, digests: Sequence[str]) -> None:
        if digests:
            await self._files.release(digests)
        self._indexes.note_change(store.id, store.embedding_model)


def check_rule(rule: str) -> None:
    """Raise `InvalidRequest` unless ``rule`` is a rule for changes."""
    if rule not in RULES:
        raise InvalidRequest(
            f"The store setting 'guard' is '{rule[:80]}', but must be one of {', '.join(RULES)}.",
            param="guard",
        )


def check_question(item: Mapping[str, Any], param: str, store_id: str, caller: Principal) -> GuardQuestionRow:
    """Return a question from a request. Raise `InvalidRequest` if it has no expected answer, or is not valid."""
    for name in item:
        if name not in _FIELDS:
            raise InvalidRequest(
                f"'{param}' has no field '{name[:80]}'; valid fields are {', '.join(_FIELDS)}.",
                code="unknown_parameter",
                param=f"{param}.{name[:80]}",
            )
    question, file, passage = (
        _text(item.get(name, ""), f"{param}.{name}", limit)
        for name, limit in (
            ("question", MAX_QUESTION_CHARS),
            ("file", MAX_QUESTION_CHARS),
            ("passage", MAX_PASSAGE_CHARS),
        )
    )
    facts = item.get("facts", [])
    if not isinstance(facts, list) or len(facts) > MAX_FACTS:
        raise InvalidRequest(
            f"'{param}.facts' must be a list of at most {MAX_FACTS} texts.", param=f"{param}.facts"
        )
    facts = [_text(fact, f"{param}.facts[{number}]", MAX_PASSAGE_CHARS) for number, fact in enumerate(facts)]
    if not question:
        raise InvalidRequest(f"'{param}.question' is empty.", param=f"{param}.question")
    if not file and not facts:
        raise InvalidRequest(
            f"'{param}' cannot be judged: add the 'file' that answers it, with a 'passage' that you quote from "
            "the file, or the expected 'facts'.",
            param=param,
        )
    if not all(facts):
        raise InvalidRequest(f"'{param}.facts' contains an empty text.", param=f"{param}.facts")
    return GuardQuestionRow(
        new_id("guard_"), store_id, caller.id, question, file, passage, facts, time.time()
    )


def _text(value: Any, param: str, limit: int) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise InvalidRequest(f"'{param}' must be a text of at most {limit:,} characters.", param=param)
    return value.strip()


def _answer(row: GuardQuestionRow, hits: Sequence[Passage]) -> Passage | None:
    """Return the first hit with the expected passage, or with the first expected fact, if all facts are in the hits."""
    if not all(any(states(row.question, fact, hit.text) for hit in hits) for fact in row.facts):
        return None
    return next(
        (
            hit
            for hit in hits
            if (hit.filename == row.file and states(row.question, row.passage, hit.text))
            or (not row.file and states(row.question, row.facts[0], hit.text))
        ),
        None,
    )


def _contradicting_hits(
    row: GuardQuestionRow, present_answer: SearchedAnswer, new_answer: SearchedAnswer
) -> Sequence[Passage]:
    """Return the hits that only the new state has and that contradict the present answer."""
    assert present_answer.hit is not None
    present_texts = {hit.text for hit in present_answer.hits}
    new_hits = [hit for hit in new_answer.hits if hit.text not in present_texts]
    return contradictions(row.question, (row.passage, *row.facts), present_answer.hit.text, new_hits)


def _contains(text: str, quote: str) -> bool:
    """Return whether a text contains a quote, ignoring white space and case."""
    return "".join(quote.split()).casefold() in "".join(text.split()).casefold()


def _short(hit: Passage | None) -> ReviewedPassage | None:
    return None if hit is None else ReviewedPassage(hit.filename, hit.text)
