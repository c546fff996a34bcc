"""The stages after ranking: decay, reranking, threshold, duplicates, diversity, larger passages."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed, InvalidRequest, NotFound, PorticoError
from portico_server.core.prompts import builtin
from portico_server.core.registry import Registry
from portico_server.core.request import Chat, Ranked, Refine, Reply, Rerank, Search
from portico_server.core.words import CJK_RUN
from portico_server.db import groups, hits
from portico_server.db.database import Database
from portico_server.db.hits import HitRow
from portico_server.knowledge.chunk.prompts import answer_lines, answer_text
from portico_server.knowledge.index.handle import Ranking
from portico_server.knowledge.rank import SearchTrace

# A ranked chunk on its way through the stages.


@dataclass(frozen=True, slots=True)
class SearchCandidate:
    """A chunk, perhaps grown by its neighbours, and its score so far, in [0, 1]."""

    row: HitRow
    score: float


def candidate_scores(candidates: Iterable[SearchCandidate]) -> list[tuple[int, float]]:
    """As a trace shows them."""
    return [(item.row.id, item.score) for item in candidates]


def order_candidates(candidates: Iterable[SearchCandidate]) -> list[SearchCandidate]:
    """Best first; equal scores by id, so that the same question always has the same answer."""
    return sorted(candidates, key=lambda item: (-item.score, item.row.id))


# Scores that fade with age.


_DAY_S = 86_400.0


def decay_scores(
    candidates: Sequence[SearchCandidate], half_life_days: float, by: str, now: float
) -> list[SearchCandidate]:
    """Each score halved for every ``half_life_days`` of age at ``now`` (seconds since 1970).

    The age counts from the attribute ``by``: seconds since 1970 or a date in ISO 8601; from when the file came into
    the store where ``by`` is empty or the file has no such attribute. Raises `InvalidRequest` for another value.
    """
    faded = []
    for item in candidates:
        value = item.row.attributes.get(by) if by else None
        since = item.row.created_at if value is None else _parse_time(value, by, item.row.filename)
        age = max(0.0, now - since) / _DAY_S
        faded.append(replace(item, score=item.score * 0.5 ** (age / half_life_days)))
    return order_candidates(faded)


def _parse_time(value: str | float | bool, by: str, filename: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise InvalidRequest(
            f"'{by}' of {filename} is '{value}', which is not a time: seconds since 1970 or a date such as 2026-11-20.",
            param="decay_by",
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


# How alike two texts are, by the short runs of words and characters that they share. Needs no model.


_WORD = re.compile(r"[^\W_]+")

_SHINGLE_WORDS = 2


def shingles(text: str) -> frozenset[str]:
    """Words, pairs of words, and pairs of Chinese, Japanese and Korean characters."""
    found: set[str] = set()
    for run in CJK_RUN.findall(text):
        found.update(run[i : i + 2] for i in range(max(1, len(run) - 1)))
    words = _WORD.findall(CJK_RUN.sub(" ", text).lower())
    found.update(words)
    found.update(" ".join(words[i : i + _SHINGLE_WORDS]) for i in range(len(words) - _SHINGLE_WORDS + 1))
    return frozenset(found)


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of what both have in what either has, in [0, 1]."""
    both = len(one & other)
    return both / (len(one) + len(other) - both) if both else 0.0


# Maximal marginal relevance: each passage as good as possible and as unlike the better ones as possible.
#
# Carbonell and Goldstein, SIGIR 1998. Likeness is that of words, so that it needs no vectors.


def diversify(candidates: Sequence[SearchCandidate], diversity: float, limit: int) -> list[SearchCandidate]:
    """At most ``limit`` candidates in the order of ``(1 - diversity) · score - diversity · likeness to those before``.

    Scores stay what they were: it is the order that changes. ``diversity`` is in [0, 1].
    """
    left = list(candidates)
    texts = {item.row.id: shingles(item.row.text) for item in left}
    near = dict.fromkeys(texts, 0.0)
    taken: list[SearchCandidate] = []
    while left and len(taken) < limit:
        best = max(
            left,
            key=lambda item: ((1 - diversity) * item.score - diversity * near[item.row.id], -item.row.id),
        )
        left.remove(best)
        taken.append(best)
        for item in left:
            near[item.row.id] = max(near[item.row.id], jaccard(texts[item.row.id], texts[best.row.id]))
    return taken


# Leaving out what says the same again.


def drop_near_duplicates(candidates: Sequence[SearchCandidate], share: float) -> list[SearchCandidate]:
    """Those that share less than ``share`` of their shingles with every better one. ``share`` is in (0, 1]."""
    kept: list[tuple[SearchCandidate, frozenset[str]]] = []
    for item in candidates:
        own = shingles(item.row.text)
        if all(jaccard(own, other) < share and item.row.text != better.row.text for better, other in kept):
            kept.append((item, own))
    return [item for item, _ in kept]


def drop_overlapping(candidates: Sequence[SearchCandidate]) -> list[SearchCandidate]:
    """Those of which no better one holds more than half: groups cut the same text more than once."""
    kept: list[SearchCandidate] = []
    for item in candidates:
        if not any(_overlaps(item, better) for better in kept):
            kept.append(item)
    return kept


def _overlaps(one: SearchCandidate, other: SearchCandidate) -> bool:
    if one.row.file_id != other.row.file_id:
        return False
    a, b = one.row.place, other.row.place
    common = min(a.end, b.end) - max(a.start, b.start)
    return common * 2 > min(a.end - a.start, b.end - b.start)


# Passages that grow: to the chunk of a coarser group that holds them, or by their neighbours.


OWN_PARENT = "*"
"""The parent of whatever group a candidate is from."""


async def expand_to_parents(
    candidates: Sequence[SearchCandidate],
    wanted: str,
    parents: Mapping[str, str],
    store_id: str,
    database: Database,
) -> list[SearchCandidate]:
    """Each candidate's parent in its place, with the score of its best child; what has no parent stays.

    ``wanted`` is a group or `OWN_PARENT`; ``parents`` the parent of each group of the store, "" for none.
    """
    into: dict[str, list[HitRow]] = {}
    for item in candidates:
        group = parents.get(item.row.group, "") if wanted == OWN_PARENT else wanted
        if group and group != item.row.group:
            into.setdefault(group, []).append(item.row)
    found: dict[int, HitRow] = {}
    for group, children in into.items():
        found |= await database.read(groups.parents, store_id, group, children)
    seen: set[int] = set()
    grown = []
    for item in candidates:
        row = found.get(item.row.id, item.row)
        if row.id not in seen:
            seen.add(row.id)
            grown.append(replace(item, row=row))
    return grown


async def expand_by_neighbours(
    candidates: Sequence[SearchCandidate], reach: int, store_id: str, database: Database
) -> list[SearchCandidate]:
    """Each candidate together with up to ``reach`` chunks before and behind it, as one text in order."""
    grown = []
    for item in candidates:
        around = await database.read(groups.around, store_id, item.row, reach)
        grown.append(replace(item, row=join_neighbours(item.row, around)) if around else item)
    return grown


def join_neighbours(row: HitRow, around: Sequence[HitRow]) -> HitRow:
    """``row`` with the text and the place of all of ``around``; what two chunks share stands there once."""
    text, end = around[0].text, around[0].place.end
    for other in around[1:]:
        shared = end - other.place.start
        if 0 < shared <= len(other.text) and text.endswith(other.text[:shared]):
            text += other.text[shared:]
        else:
            text += "\n" + other.text
        end = max(end, other.place.end)
    return replace(row, text=text, place=replace(around[0].place, end=end))


# A second, closer look at the best candidates, by a model that reads question and passage together.


MAX_RERANKED = 50
"""Candidates that a reranking model reads, unless its card has the label ``candidates`` …"""

MAX_LABELLED_RERANKED = 100
"""… which counts up to so many."""

MAX_JUDGED = 20
"""Candidates that a chat model judges: each is a call."""

MAX_CONCURRENT_JUDGEMENTS = 4

MAX_PASSAGE_CHARS = 4_000
"""Characters of a passage that are shown to a judge."""

MAX_GRADE = 10

_GRADE_SCHEMA = {
    "type": "object",
    "properties": {"grade": {"type": "integer", "minimum": 0, "maximum": MAX_GRADE}},
    "required": ["grade"],
    "additionalProperties": False,
}


async def rerank(
    query: str, candidates: Sequence[SearchCandidate], model: str, registry: Registry, context: Context
) -> list[SearchCandidate]:
    """The best candidates with the scores, in [0, 1], that ``model`` gives them; those it does not read are left out.

    A model with the capability ``rerank`` is asked once, one that chats grades each passage. Raises `InvalidRequest`
    for any other.
    """
    found = registry.get(model, context.caller)
    if found is None:
        raise NotFound(f"There is no model '{model}' here.", code="model_not_found", param="reranker")
    if "rerank" in found.card.capabilities:
        labelled = found.card.labels.get("candidates")
        most = (
            min(labelled, MAX_LABELLED_RERANKED) if type(labelled) is int and labelled > 0 else MAX_RERANKED
        )
        return await _by_reranker(query, candidates[:most], model, context)
    if "chat" in found.card.capabilities:
        return await _by_judge(query, candidates[:MAX_JUDGED], model, context)
    raise InvalidRequest(
        f"'{model}' can neither rerank nor chat, so it cannot judge passages.", param="reranker"
    )


async def _by_reranker(
    query: str, candidates: Sequence[SearchCandidate], model: str, context: Context
) -> list[SearchCandidate]:
    if not candidates:
        return []
    result = await context.call(model, Rerank(query, tuple(item.row.text for item in candidates)))
    if not isinstance(result, Ranked) or any(not 0 <= i < len(candidates) for i, _ in result.results):
        raise EngineFailed(f"'{model}' did not answer as a reranking model does.")
    return order_candidates(
        replace(candidates[i], score=min(1.0, max(0.0, score))) for i, score in dict(result.results).items()
    )


async def _by_judge(
    query: str, candidates: Sequence[SearchCandidate], model: str, context: Context
) -> list[SearchCandidate]:
    slots = asyncio.Semaphore(MAX_CONCURRENT_JUDGEMENTS)

    async def judge(item: SearchCandidate) -> SearchCandidate:
        async with slots:
            return replace(item, score=await _grade(query, item.row.text, model, context))

    async with asyncio.TaskGroup() as tasks:
        judging = [tasks.create_task(judge(item)) for item in candidates]
    # Grades are coarse: among equals the ranking before decides, and sorting keeps it.
    return sorted((task.result() for task in judging), key=lambda item: -item.score)


async def _grade(query: str, text: str, model: str, context: Context) -> float:
    messages = builtin.messages(
        "judge-passage", question=query, passage=text[:MAX_PASSAGE_CHARS], most=MAX_GRADE
    )
    options = {
        "temperature": 0,
        "max_tokens": 16,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "grade", "strict": True, "schema": _GRADE_SCHEMA},
        },
    }
    reply = await context.call(model, Chat(messages, options))
    assert isinstance(reply, Reply)
    try:
        grade = float(json.loads(reply.content)["grade"])
    except (ValueError, KeyError, TypeError):
        return 0.0  # a judge that says nothing sensible has not said that the passage answers
    return min(1.0, max(0.0, grade / MAX_GRADE))


@dataclass(frozen=True, slots=True)
class Refiner:
    """Refines the ranking of one store. ``parents`` has the parent of each of its groups, "" for none."""

    store_id: str
    parents: Mapping[str, str]
    database: Database
    registry: Registry

    async def refine(
        self, request: Search, ranking: Ranking, context: Context, trace: SearchTrace
    ) -> list[SearchCandidate]:
        """At most ``max_num_results`` candidates, best first; with diversity, in the order in which they add most."""
        settings, limit = request.refine, request.max_num_results
        found = await self._read(ranking, trace)
        if settings.half_life_days:
            started = time.perf_counter()
            found = decay_scores(found, settings.half_life_days, settings.decay_by, time.time())
            trace.add("decay", started, candidate_scores(found), f"half in {settings.half_life_days:g} days")
        if settings.reranker:
            started = time.perf_counter()
            found = await rerank(request.query, found, settings.reranker, self.registry, context)
            trace.add("rerank", started, candidate_scores(found), settings.reranker)
        if request.score_threshold:
            started = time.perf_counter()
            found = [item for item in found if item.score >= request.score_threshold]
            trace.add("threshold", started, candidate_scores(found), f"at least {request.score_threshold:g}")
        started = time.perf_counter()
        found = drop_overlapping(drop_near_duplicates(found, settings.near_duplicates or 1.0))
        trace.add(
            "collapse", started, candidate_scores(found), f"alike from {settings.near_duplicates or 1:g}"
        )
        if settings.diversity:
            started = time.perf_counter()
            # Passages that grow may become one: some are kept in hand.
            spare = limit if settings.parents or settings.neighbours else 0
            found = diversify(found, settings.diversity, limit + spare)
            trace.add("diversity", started, candidate_scores(found), f"{settings.diversity:g} for unlikeness")
        return (await self._expand(request, found, trace))[:limit]

    async def _read(self, ranking: Ranking, trace: SearchTrace) -> list[SearchCandidate]:
        started = time.perf_counter()
        rows = await self.database.read(hits.get, self.store_id, [chunk for chunk, _ in ranking])
        found = [SearchCandidate(rows[chunk], score) for chunk, score in ranking if chunk in rows]
        trace.add("read", started, note=f"{len(found)} candidates")
        return found

    async def _expand(
        self, request: Search, found: list[SearchCandidate], trace: SearchTrace
    ) -> list[SearchCandidate]:
        """Larger passages; those that then tell the same text are one."""
        settings = request.refine
        if settings.parents:
            started = time.perf_counter()
            found = await expand_to_parents(
                found, settings.parents, self.parents, self.store_id, self.database
            )
            trace.add("parents", started, candidate_scores(found))
        if settings.neighbours:
            started = time.perf_counter()
            few = found[: request.max_num_results * 2]
            found = drop_overlapping(
                await expand_by_neighbours(few, settings.neighbours, self.store_id, self.database)
            )
            trace.add("neighbours", started, candidate_scores(found), f"{settings.neighbours} on each side")
        return found


# What a chat model makes of a question before it is searched for: other questions, and which stores it is for.


MAX_FURTHER_QUESTIONS = 4
"""Further questions, at most."""

MAX_FURTHER_QUESTION_CHARS = 2_000
"""Characters of one."""

REWRITE_TIMEOUT_S = 30.0
"""Seconds after which a question is searched for as it stands, where the model is not needed."""

_REWRITE_PROMPTS: dict[Literal["rewrite", "decompose", "hyde", "replace"], str] = {
    "rewrite": "rewrite-query",
    "replace": "rewrite-query",
    "decompose": "decompose-question",
    "hyde": "hypothetical-passage",
}
"""The prompt for each way to rewrite a question."""


@dataclass(frozen=True, slots=True)
class SearchQueries:
    """What is searched for, and what is to be said about it in the trace."""

    queries: tuple[str, ...]
    note: str = ""


async def rewrite_question(query: str, refine: Refine, context: Context) -> SearchQueries:
    """What to search for: ``query`` first, then what the model makes of it, each once.

    Raises what the model raises, except for ``replace``: there the query stays as it is where the model fails.
    """
    if refine.rewrite == "":
        return SearchQueries((query,))
    if refine.rewrite != "replace":
        found = await _write_further(query, refine, context)
        queries = tuple(dict.fromkeys([query, *found]))[: MAX_FURTHER_QUESTIONS + 1]
        return SearchQueries(queries, " | ".join(queries[1:]))
    try:
        async with asyncio.timeout(REWRITE_TIMEOUT_S) as limit:
            found = await _write_further(query, refine, context)
    except PorticoError as error:
        return SearchQueries((query,), f"the question itself: {error.message}")
    except TimeoutError:
        if not limit.expired():
            raise
        return SearchQueries(
            (query,), f"the question itself: '{refine.writer}' took longer than {REWRITE_TIMEOUT_S:g} s"
        )
    return SearchQueries((found[0],), found[0]) if found else SearchQueries((query,), "the question itself")


async def _write_further(query: str, refine: Refine, context: Context) -> list[str]:
    """What the model makes of a question."""
    assert refine.rewrite
    more = {"count": MAX_FURTHER_QUESTIONS} if refine.rewrite == "decompose" else {}
    messages = builtin.messages(_REWRITE_PROMPTS[refine.rewrite], question=query, **more)
    reply = await context.call(refine.writer, Chat(messages, {"temperature": 0, "max_tokens": 256}))
    if not isinstance(reply, Reply):
        raise EngineFailed(f"'{refine.writer}' did not answer as a chat model does.")
    text = answer_text(reply.content, cut=False)
    further = [" ".join(text.split())]
    if refine.rewrite == "decompose":
        further = answer_lines(text)
    further = [line.strip(' \t"“”')[:MAX_FURTHER_QUESTION_CHARS] for line in further]
    return [line for line in further if line]


# Which of several stores a question is for, said by a chat model from their names and descriptions.


ROUTE_TIMEOUT_S = 30.0
"""Seconds after which all stores are searched."""

MAX_ROUTED_STORES = 3
"""Stores that a question is sent to, at most."""

MAX_SHOWN_QUESTION_CHARS = 2_000
"""Characters of a question that are shown."""

_NUMBER = re.compile(r"\d+")


async def choose_stores(
    query: str, stores: Sequence[tuple[str, str]], writer: str, context: Context
) -> tuple[list[int], str]:
    """The stores (name, description) to search, counted from 0, and a note for the trace.

    All of them, if the model ``writer`` fails, takes too long or names none: a search must not end for want of advice.
    """
    every = list(range(len(stores)))
    shown = "\n".join(
        f"{number}. {name}{f': {description}' if description else ''}"
        for number, (name, description) in enumerate(stores, start=1)
    )
    messages = builtin.messages(
        "route-stores", collections=shown, question=query[:MAX_SHOWN_QUESTION_CHARS], most=MAX_ROUTED_STORES
    )
    try:
        async with asyncio.timeout(ROUTE_TIMEOUT_S) as limit:
            reply = await context.call(writer, Chat(messages, {"temperature": 0, "max_tokens": 64}))
        if not isinstance(reply, Reply):
            raise EngineFailed(f"'{writer}' did not answer as a chat model does.")
    except PorticoError as error:
        return every, f"all of them: {error.message}"
    except TimeoutError:
        if not limit.expired():
            raise
        return every, f"all of them: '{writer}' took longer than {ROUTE_TIMEOUT_S:g} s"
    numbers = (
        int(number) - 1
        for number in _NUMBER.findall(answer_text(reply.content, cut=False)[:MAX_SHOWN_QUESTION_CHARS])
    )
    chosen = list(dict.fromkeys(number for number in numbers if 0 <= number < len(stores)))[
        :MAX_ROUTED_STORES
    ]
    if not chosen:
        return every, f"all of them: '{writer}' named none"
    return chosen, ", ".join(stores[number][0] for number in chosen)
