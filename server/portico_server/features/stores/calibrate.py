"""Measures how much vectors improve a store's search compared with words alone, on questions with known answers."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from portico.wire import JSON, Progressed
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.prompts import builtin
from portico_server.core.registry import Registry
from portico_server.core.request import Chat, ChatReply, Search
from portico_server.db import chunks, hits
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.hits import HitRow
from portico_server.db.stores import StoreRow
from portico_server.features.stores.fusion import fuse_weighted
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.model_calls import call_model
from portico_server.features.stores.rank import MAX_CANDIDATES, ChunkRanker, RankedSides

WEIGHTS = tuple(step / 10 for step in range(11))
"""Weights to evaluate, from 0 (only words) to 1 (only vectors)."""

MAX_QUESTIONS = 2_000
"""Maximum number of questions in one measurement."""

RANK_DEPTH = 10
"""Number of results per question in which an answer counts."""

MAX_CONCURRENT_QUESTIONS = 4
"""Maximum number of questions that a chat model writes concurrently."""

MIN_PASSAGE_CHARS = 80
"""Minimum length of a passage about which a question can be asked, in characters."""

MAX_PASSAGE_CHARS = 4_000
"""Maximum length of the passage text shown to the model that writes questions, in characters."""


@dataclass(frozen=True, slots=True)
class CalibrationQuestion:
    """A question and its answer: a ``file`` by name or id, a ``passage`` text, or the id of one ``chunk``."""

    question: str
    file: str = ""
    passage: str = ""
    chunk: int = 0

    def is_answered_by(self, hit: HitRow) -> bool:
        """Return whether a chunk answers the question."""
        if self.chunk:
            return hit.id == self.chunk
        if self.file and self.file not in (hit.filename, hit.file_id):
            return False
        return not self.passage or _overlaps(self.passage, hit.text)


@dataclass(frozen=True, slots=True)
class WeightScore:
    """Quality of search with one ``weight`` for vectors. Each measure is from 0 to 1, over the first `RANK_DEPTH`
    results.

    If a question names only a file, its results are counted by file, otherwise by passage. Only the first answer to
    each question counts.
    """

    weight: float
    ndcg: float
    recall: float
    mrr: float


def check_questions(given_value: Any) -> list[CalibrationQuestion]:
    """Parse the questions of a request. Raise `InvalidRequest` if one is invalid; the message names the question."""
    if not isinstance(given_value, list) or not 1 <= len(given_value) <= MAX_QUESTIONS:
        raise InvalidRequest(f"'questions' takes 1 to {MAX_QUESTIONS:,} questions.", param="questions")
    calibration_questions = []
    for number, item in enumerate(given_value):
        path = f"questions[{number}]"
        values = (
            {name: item.get(name, "") for name in ("question", "file", "passage")} if _is_map(item) else {}
        )
        if not values or not all(isinstance(value, str) for value in values.values()):
            raise InvalidRequest(
                f"'{path}' must be an object with 'question' and 'file' or 'passage'.", param=path
            )
        if not values["question"].strip() or not (values["file"] or values["passage"]):
            raise InvalidRequest(
                f"'{path}' needs a question, and the file or passage that answers it.", param=path
            )
        calibration_questions.append(CalibrationQuestion(**values))
    return calibration_questions


def require_vectors(store: StoreRow, param: str) -> None:
    """Raise `InvalidRequest` if a store has no vectors to which a weight could apply."""
    if not store.embedding_model:
        raise InvalidRequest(
            f"The store '{store.name or store.id}' has no embedding model, so it has no vectors whose weight "
            "could be set.",
            code="no_vectors",
            param=param,
        )


class Calibration:
    """Measures the quality of search for several vector weights, and sets the best weight on request."""

    def __init__(self, database: Database, indexes: IndexManager, registry: Registry) -> None:
        self._database = database
        self._indexes = indexes
        self._registry = registry

    def check(self, store: StoreRow, request: Mapping[str, Any]) -> None:
        """Raise `InvalidRequest` if the request is not valid, or its model cannot write questions."""
        require_vectors(store, "store")
        if (request.get("questions") is None) == (request.get("generate") is None):
            raise InvalidRequest("Specify either 'questions' or 'generate'.", param="questions")
        if request.get("questions") is not None:
            check_questions(request["questions"])
        elif (
            model := self._registry.get(str(request.get("model")))
        ) is None or "chat" not in model.card.capabilities:
            raise InvalidRequest(
                f"'{str(request.get('model'))[:80]}' is not an available chat model, so it cannot write "
                "questions.",
                code="model_not_found",
                param="model",
            )

    async def run(self, store: StoreRow, payload: Mapping[str, Any], context: Context) -> JSON:
        """Measure all `WEIGHTS`, and return the scores and the best weight. ``apply`` sets the best weight for the
        store.

        Raises `InvalidRequest` if the search finds no answer to any question.
        """
        if payload.get("generate"):
            calibration_questions = await self._write(
                store, int(payload["generate"]), str(payload["model"]), context
            )
        else:
            calibration_questions = check_questions(payload.get("questions"))
        ranks: dict[float, list[int]] = {weight: [] for weight in WEIGHTS}
        unanswered_count = 0
        for number, question in enumerate(calibration_questions, start=1):
            ranks_by_weight = await self._ranks(store, question, context)
            unanswered_count += all(rank == 0 for rank in ranks_by_weight.values())
            for weight, rank in ranks_by_weight.items():
                ranks[weight].append(rank)
            await context.emit(
                Progressed(
                    "calibrate",
                    question.question[:80],
                    done=number,
                    total=len(calibration_questions),
                    unit="questions",
                )
            )
        scores = [score(weight, ranks[weight]) for weight in WEIGHTS]
        if not any(item.recall for item in scores):
            raise InvalidRequest(
                "The search finds no answer to any of the questions: check the names of the files and the "
                "passages.",
                code="nothing_to_measure",
                param="questions",
            )
        weight_score = best(scores, store.vector_weight)
        if payload.get("apply"):
            await self._database.write(rows.change, store.id, {"vector_weight": weight_score.weight})
        return {
            "questions": len(calibration_questions),
            "unanswered": unanswered_count,
            "scores": [_plain(item) for item in scores],
            "best": weight_score.weight,
            "before": store.vector_weight,
            "applied": bool(payload.get("apply")),
        }

    async def _ranks(
        self, store: StoreRow, question: CalibrationQuestion, context: Context
    ) -> dict[float, int]:
        """Return, for each weight, the rank of the first answer to the question, or 0 if no answer is among the first
        `RANK_DEPTH` results.
        """
        ranker = ChunkRanker(
            store.id,
            store.name or store.id,
            store.embedding_model,
            indexes=self._indexes,
            database=self._database,
            registry=self._registry,
        )
        sides = await ranker.sides(Search(question.question), context)
        chunk_ids = {chunk for side in (sides.lexical, sides.dense) for chunk, _ in side}
        hit_rows = await self._database.read(hits.get, store.id, sorted(chunk_ids))
        key: Callable[[HitRow], object] = _by_file if question.file and not question.passage else _by_chunk
        return {weight: _rank(sides, weight, question, hit_rows, key) for weight in WEIGHTS}

    async def _write(
        self, store: StoreRow, count: int, model: str, context: Context
    ) -> list[CalibrationQuestion]:
        """Let a chat model write questions about a sample of the store's passages. The sample is the same in each
        measurement.
        """
        ids = list(await self._database.read(chunks.ids, store.id))
        random.Random(store.id).shuffle(ids)  # noqa: S311  # a sample, not a secret
        texts = await self._database.read(chunks.texts, ids[: 4 * count])
        long = [(chunk, text) for chunk, _, text in texts if len(text) >= MIN_PASSAGE_CHARS][:count]
        slots = asyncio.Semaphore(MAX_CONCURRENT_QUESTIONS)

        async def write_question(chunk: int, text: str) -> CalibrationQuestion | None:
            messages = builtin.messages("write-question", passage=text[:MAX_PASSAGE_CHARS])
            async with slots:
                reply = await call_model(
                    context, model, Chat(messages, {"temperature": 0, "max_tokens": 120})
                )
            assert isinstance(reply, ChatReply)
            answer = next((line.strip() for line in reply.content.splitlines() if line.strip()), "")
            await context.emit(Progressed("ask", answer[:80]))
            return CalibrationQuestion(answer[:1_000], chunk=chunk) if answer else None

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(write_question(chunk, text)) for chunk, text in long]
        calibration_questions = [question for task in running if (question := task.result()) is not None]
        if not calibration_questions:
            raise InvalidRequest(
                f"The store contains no passage of at least {MIN_PASSAGE_CHARS} characters to ask about.",
                code="nothing_to_measure",
                param="generate",
            )
        return calibration_questions


def score(weight: float, ranks: Sequence[int]) -> WeightScore:
    """Return the quality of search, given the rank of the first answer to each question (0 if there is none)."""
    found_ranks = [rank for rank in ranks if rank]
    return WeightScore(
        weight,
        sum(1 / math.log2(rank + 1) for rank in found_ranks) / len(ranks),
        len(found_ranks) / len(ranks),
        sum(1 / rank for rank in found_ranks) / len(ranks),
    )


def best(scores: Sequence[WeightScore], now: float | None) -> WeightScore:
    """Return the score with the highest nDCG.

    If several scores are equally high, return the one whose weight is nearest to the current weight, ``now``, or to 0
    if there is none.
    """
    high = max(item.ndcg for item in scores)
    good = [item for item in scores if item.ndcg >= high - 1e-9]
    return min(good, key=lambda item: (abs(item.weight - (now or 0.0)), item.weight))


def _rank(
    sides: RankedSides,
    weight: float,
    question: CalibrationQuestion,
    hit_rows: Mapping[int, HitRow],
    key: Callable[[HitRow], object],
) -> int:
    seen_keys: set[object] = set()
    for chunk, _ in fuse_weighted(sides.lexical, sides.dense, weight)[:MAX_CANDIDATES]:
        hit = hit_rows.get(chunk)
        if hit is None:
            continue
        seen_keys.add(key(hit))
        if len(seen_keys) > RANK_DEPTH:
            break
        if question.is_answered_by(hit):
            return len(seen_keys)
    return 0


def _by_file(hit: HitRow) -> object:
    return hit.file_id


def _by_chunk(hit: HitRow) -> object:
    return hit.id


def _overlaps(passage: str, text: str) -> bool:
    """Return whether the chunk contains the passage or the passage contains the chunk, ignoring white space."""
    bare_passage, bare_text = "".join(passage.split()), "".join(text.split())
    return bool(bare_text) and (bare_passage in bare_text or bare_text in bare_passage)


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)


def _plain(item: WeightScore) -> dict[str, JSON]:
    return {"weight": item.weight, "ndcg": item.ndcg, "recall": item.recall, "mrr": item.mrr}
