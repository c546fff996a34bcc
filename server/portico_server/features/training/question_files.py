"""Writes the questions to a store as files that the training reads."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.prompts import builtin
from portico_server.core.request import Chat, ChatReply, Search, SearchResult
from portico_server.core.training_passages import ReadableStores, StorePassage
from portico_server.features.training.cloze_questions import made_questions
from portico_server.features.training.data import MAX_LISTED_ERRORS
from portico_server.features.training.negatives import (
    NegativeChooser,
    held_back_files,
    is_same_text,
    shared_words,
)
from portico_server.features.training.questions import (
    DEFAULT_QUESTION_COUNT,
    HELD_BACK_NEGATIVE_COUNT,
    HELD_BACK_SHARE,
    MAX_HELD_BACK,
    MAX_PASSAGE_CHARS,
    MAX_PASSAGES,
    MAX_QUESTION_CHARS,
    MIN_PASSAGE_CHARS,
    MIN_QUESTIONS,
    MIN_SHARED,
    SEARCH_DEPTH,
    TRAINED_NEGATIVE_COUNT,
    AnsweredQuestion,
    StoreQuestion,
    Told,
)
from portico_server.features.training.spec import DataFacts, FineTuningSpec, Method, PreparedData
from portico_server.features.training.written_questions import read_questions


async def prepare_questions(
    spec: FineTuningSpec,
    file: Path | None,
    folder: Path,
    stores: ReadableStores,
    context: Context,
    limit: int,
    on_progress: Told,
) -> tuple[PreparedData, tuple[str, ...]]:
    """Write training and held-back questions into ``folder``, with the passages that answer them and negatives.

    ``file`` contains the user's questions; without a file, questions are generated. ``context`` has the permissions of
    the job's owner. ``limit`` is the context length of the model, in tokens. Raises `InvalidRequest` for an invalid
    line or too few questions.
    """
    asked_file = await pools.DATASETS.run(read_questions, file) if file is not None else None
    passages = await stores.passages(spec.store, context.caller, MAX_PASSAGES)
    warnings: list[str] = []
    if asked_file is not None:
        answered_questions = await _read_answered(asked_file, passages, spec, context, on_progress, warnings)
    elif spec.asker:
        answered_questions = await _write_questions(passages, spec, context, on_progress)
    else:
        question_count = spec.questions or DEFAULT_QUESTION_COUNT
        answered_questions = await pools.DATASETS.run(made_questions, passages, question_count, spec.seed)
    if len(answered_questions) < MIN_QUESTIONS:
        raise InvalidRequest(
            f"The store '{spec.store}' has {len(passages):,} passages, which answer "
            f"{len(answered_questions):,} questions, but at least {MIN_QUESTIONS} answered questions are "
            "required. Provide a file with more questions, or add documents.",
            code="too_few_questions",
            param="training_file" if file is not None else "store",
        )
    files = held_back_files(answered_questions)
    if not files:
        warnings.append(
            "All questions are about one file. The held-back questions are about the same file, so their "
            "scores partly measure memorization."
        )
    rows = [row async for row in _rows(answered_questions, files, passages, spec, context, on_progress)]
    training = [row for row, is_held in rows if not is_held]
    validation = [row for row, is_held in rows if is_held][:MAX_HELD_BACK]
    await pools.DATASETS.run(_write, folder, training, validation)
    tokens = [_lengths(row, spec.method) for row in training]
    sorted_lengths = sorted(max(lengths) for lengths in tokens)
    facts = DataFacts(
        len(training),
        sum(map(sum, tokens)),
        sorted_lengths[-1],
        sorted_lengths[int(len(sorted_lengths) * 0.95)] if len(sorted_lengths) > 1 else sorted_lengths[0],
        len(validation),
    )
    if limit and sorted_lengths[-1] > limit:
        warnings.append(
            f"Passages longer than about {limit:,} tokens are truncated, because the model cannot read more."
        )
    if asked_file is None and not spec.asker:
        warnings.append(
            "The questions were generated from the store's own headings and sentences. A file of questions "
            "written by people gives better training and more meaningful measurements."
        )
    paths = (folder / "training.jsonl", folder / "validation.jsonl")
    return PreparedData(*paths, facts), tuple(warnings)


async def _read_answered(
    questions: Sequence[StoreQuestion],
    passages: Sequence[StorePassage],
    spec: FineTuningSpec,
    context: Context,
    on_progress: Told,
    warnings: list[str],
) -> list[AnsweredQuestion]:
    """Return the questions of a file with the passages that answer them, and add a warning about questions without an
    answer.
    """
    answered_questions: list[AnsweredQuestion] = []
    missing: list[int] = []
    store_passages: dict[str, list[StorePassage]] = {}
    for passage in passages:
        store_passages.setdefault(passage.file, []).append(passage)
    for done_count, store_question in enumerate(questions):
        await on_progress("answers", store_question.question[:80], done_count, len(questions))
        hits = await _search(spec.store, store_question.question, context)
        if store_question.answer and not store_question.passage:
            hits += await _search(spec.store, store_question.answer[:MAX_QUESTION_CHARS], context)
        if store_question.file:
            hits = [hit for hit in hits if hit.file == store_question.file] or store_passages.get(
                store_question.file, []
            )
            hits.sort(key=lambda hit: -shared_words(store_question.question, hit.text))
        answering = await pools.DATASETS.run(_answer_among, store_question, hits)
        if answering is None:
            missing.append(store_question.number)
            continue
        is_whole = bool(store_question.file) and not store_question.passage and not store_question.answer
        answered_questions.append(
            AnsweredQuestion(
                store_question.question, answering, answering.text, store_question.answer, is_whole
            )
        )
    if missing:
        line_list = ", ".join(map(str, missing[:MAX_LISTED_ERRORS])) + (
            ", …" if len(missing) > MAX_LISTED_ERRORS else ""
        )
        warnings.append(
            f"Skipped {len(missing):,} questions that no passage of the store answers (lines {line_list})."
        )
    return answered_questions


def _answer_among(store_question: StoreQuestion, hits: Sequence[StorePassage]) -> StorePassage | None:
    """Return the passage that answers a question, judged by the file, passage or answer that the question gives, or
    ``None``.
    """
    if store_question.passage:
        return next((hit for hit in hits if is_same_text(store_question.passage, hit.text)), None)
    if store_question.answer:
        best = max(hits, key=lambda hit: shared_words(store_question.answer, hit.text), default=None)
        good = best is not None and (
            bool(store_question.file) or shared_words(store_question.answer, best.text) >= MIN_SHARED
        )
        return best if good else None
    return hits[0] if hits else None


async def _write_questions(
    passages: Sequence[StorePassage], spec: FineTuningSpec, context: Context, on_progress: Told
) -> list[AnsweredQuestion]:
    """Have the chat model ``asker`` write a question about each of a selection of passages."""
    question_count = spec.questions or DEFAULT_QUESTION_COUNT
    order = [passage for passage in passages if len(passage.text) >= MIN_PASSAGE_CHARS]
    random.Random(spec.seed).shuffle(order)  # noqa: S311  # no secret
    answered_questions: list[AnsweredQuestion] = []
    for done_count, passage in enumerate(order[:question_count]):
        await on_progress(
            "questions", f"'{spec.asker}' asks about {passage.file}", done_count, question_count
        )
        messages = builtin.messages("write-question", passage=passage.text[:MAX_PASSAGE_CHARS])
        options = {"temperature": 0, "max_tokens": 120}
        reply = await context.call(spec.asker, Chat(messages, options))
        if not isinstance(reply, ChatReply):
            raise PorticoError(f"'{spec.asker}' did not return a chat completion.")
        question = next((line.strip() for line in reply.content.splitlines() if line.strip()), "")
        if question:
            answered_questions.append(AnsweredQuestion(question[:MAX_QUESTION_CHARS], passage, passage.text))
    return answered_questions


async def _search(store: str, query: str, context: Context) -> list[StorePassage]:
    search_result = await context.call(f"store/{store}", Search(query, max_num_results=SEARCH_DEPTH))
    if not isinstance(search_result, SearchResult):
        raise PorticoError(f"The store '{store}' did not return search results.")
    return [
        StorePassage(0, hit.filename, tuple(hit.place.heading), hit.text) for hit in search_result.passages
    ]


async def _rows(
    answered_questions: Sequence[AnsweredQuestion],
    held_files: frozenset[str],
    passages: Sequence[StorePassage],
    spec: FineTuningSpec,
    context: Context,
    on_progress: Told,
) -> AsyncIterator[tuple[Mapping[str, Any], bool]]:
    """Yield each question as a training row, and whether it is held back.

    Passages of held-back files are never used in training, neither as answers nor as negatives.
    """
    all_files = frozenset(passage.file for passage in passages) | {
        entry.passage.file for entry in answered_questions
    }
    chooser = NegativeChooser(passages, spec.seed)
    held_numbers = (
        frozenset()
        if held_files
        else frozenset(range(0, len(answered_questions), round(1 / HELD_BACK_SHARE)))
    )
    for number, answered_question in enumerate(answered_questions):
        await on_progress("negatives", answered_question.question[:80], number, len(answered_questions))
        is_held = answered_question.passage.file in held_files or number in held_numbers
        hits = await _search(spec.store, answered_question.question, context)
        files = all_files if is_held else all_files - held_files
        count = HELD_BACK_NEGATIVE_COUNT if is_held else TRAINED_NEGATIVE_COUNT
        negatives = await pools.DATASETS.run(chooser.choose, answered_question, hits, files, count)
        yield (
            {
                "query": answered_question.question,
                "positives": [answered_question.text],
                "negatives": negatives,
            },
            is_held,
        )


def _write(folder: Path, training: Sequence[Any], validation: Sequence[Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("training", training), ("validation", validation)):
        with (folder / f"{name}.jsonl").open("wb") as file:
            file.writelines(orjson.dumps(row) + b"\n" for row in rows)


def _lengths(row: Mapping[str, Any], method: Method) -> list[int]:
    """Return the approximate length, in tokens, of each sequence that a training row is turned into."""
    query, texts = estimated_tokens(row["query"]), [*row["positives"], *row["negatives"]]
    lengths = [estimated_tokens(text) for text in texts]
    return [query + length for length in lengths] if method == "rerank" else [query, *lengths]


def estimated_tokens(text: str) -> int:
    """Estimate the number of tokens in a text: one per four letters, or one per character in scripts without spaces."""
    wide = sum(1 for character in text if character >= "\u2e80")
    return 3 + wide + (len(text) - wide) // 4
