"""Late chunking: the passages of a document are embedded with their surroundings, stretch by stretch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from tests.server.features.stores.store_fixture import MODEL, LetterEmbedding, vector
from tests.server.features.stores.store_fixture import within as within_text
from tests.server.features.stores.store_services import StoreServices, store_services

from portico.schemas.chunks import ChunkGroup
from portico.wire import Place
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.core.request import Search, SearchResult
from portico_server.core.servable import Card
from portico_server.db.stores import StoreRow
from portico_server.features.chunkers.chunkers import chunk_parts
from portico_server.features.chunkers.document import Part
from portico_server.features.stores import late_vectors, model_calls
from portico_server.features.stores.contents import FileToAttach
from portico_server.features.stores.groups import GroupSpec


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the stretches, so that a short text has several."""
    monkeypatch.setattr(late_vectors, "CALL_CHARS", 6_000)
    monkeypatch.setattr(late_vectors, "CONTEXT_CHARS", 2_000)


LATE = {"type": "late", "size": 500, "overlap": 0}
STORY = "\n\n".join(f"The keeper of lamp {n} lives alone. " + f"Lamp {n} burns oil. " * 20 for n in range(50))


def cut(text: str, overlap: int = 0) -> list[Part]:
    return chunk_parts([Part(text, Place(start=0, end=len(text)))], {**LATE, "overlap": overlap}, "sentence")


@pytest.mark.parametrize("overlap", [0, 100])
def test_each_window_places_its_passages_within_surrounding_context(overlap: int) -> None:
    pieces = cut(STORY, overlap)
    done = 0
    while done < len(pieces):
        window = late_vectors.passage_window(pieces, done)
        assert window.first == done
        assert [window.text[first:last] for first, last in window.spans] == [
            piece.text for piece in pieces[window.first : window.last]
        ]
        first, last = pieces[window.first].place, pieces[window.last - 1].place
        assert len(window.text) - (last.end - first.start) < 2 * late_vectors.CONTEXT_CHARS + 1_000
        assert window.first == 0 or window.spans[0][0] > late_vectors.CONTEXT_CHARS / 2
        assert (
            window.last == len(pieces)
            or len(window.text) - window.spans[-1][1] > late_vectors.CONTEXT_CHARS / 2
        )
        assert " ".join(window.text.split()) in " ".join(STORY.split())
        done = window.last


def test_parts_of_separate_documents_in_one_file_are_joined_with_a_newline() -> None:
    pieces = [Part("One ends.", Place(start=0, end=9)), Part("Two begins.", Place(start=0, end=11))]
    assert late_vectors.join_with_spans(pieces) == ("One ends.\nTwo begins.", ((0, 9), (10, 21)))


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[StoreServices]:
    async with store_services(tmp_path / "home") as services:
        yield services


async def stored(shop: StoreServices) -> StoreRow:
    store = await shop.stores.create("lamps", LOCAL)
    file = await shop.upload("story.txt", STORY)
    await shop.stores.contents.attach(store, [FileToAttach(file.id)], LOCAL)
    await shop.settled(store)
    return store


async def made(shop: StoreServices, store: StoreRow) -> ChunkGroup:
    return next(group for group in await shop.stores.groups.list(store, 1) if group.name == "late")


async def test_a_retry_after_a_model_failure_embeds_only_the_rest(
    shop: StoreServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_calls, "MAX_ATTEMPTS", 1)
    store = await stored(shop)
    shop.model.asked.clear()
    shop.model.breaks_after = 1
    _, run = await shop.stores.groups.add(store, "late", chunking=LATE)
    assert await shop.result(run) == {"in_groups": 0, "failed_in_groups": 1}
    group = await made(shop, store)
    assert 0 < group.chunks < len(cut(STORY))
    message = "story.txt could not be added to the group 'late': The process behind 'letters' crashed."
    assert list(group.errors) == [("story.txt", message)]
    shop.model.breaks_after, shop.model.broken = None, False
    [again] = await shop.stores.groups.retry(store)
    await shop.result(again)
    group = await made(shop, store)
    assert (group.completed, group.failed, group.chunks) == (1, 0, len(cut(STORY)))
    assert len(shop.model.asked) == len(set(shop.model.asked))  # no stretch is embedded twice


async def test_late_vectors_reflect_the_text_around_a_passage(shop: StoreServices) -> None:
    store = await stored(shop)
    _, run = await shop.stores.groups.add(store, "late", chunking=LATE)
    await shop.result(run)
    search_request = Search("keeper lives", max_num_results=1, groups=("late",), ranker="vector")
    result = await shop.runner.call("search", "store/lamps", search_request, LOCAL)
    assert isinstance(result, SearchResult)
    [best] = result.passages
    pieces = cut(STORY)
    asked_for = np.frombuffer(vector("keeper lives"), "<f4")
    scores = []
    done = 0
    while done < len(pieces):
        window = late_vectors.passage_window(pieces, done)
        window_vector = vector(window.text)
        scores += [
            float(asked_for @ np.frombuffer(within_text(window.text[a:b], window_vector), "<f4"))
            for a, b in window.spans
        ]
        done = window.last
    assert best.score == pytest.approx(max(scores), abs=1e-4)


async def test_changing_the_store_model_leaves_a_late_group_unchanged(shop: StoreServices) -> None:
    store = await stored(shop)
    await shop.stores.groups.apply(store, [GroupSpec("late", LATE)])
    shop.registry.add(Other())
    await shop.result(await shop.stores.jobs.change_model(store, "other"))
    store = await shop.stores.get("lamps", LOCAL)
    assert (store.embedding_model, (await made(shop, store)).embedding_model) == ("other", MODEL)
    # A configuration that names no model accepts the current one.
    assert await shop.stores.groups.apply(store, [GroupSpec("late", LATE)]) == []
    with pytest.raises(InvalidRequest, match="Available models that support it: letters") as error:
        await shop.stores.groups.add(store, "later", chunking=LATE)
    assert (error.value.code, error.value.param) == ("spans_unsupported", "embedding_model")


class Other(LetterEmbedding):
    """A model for whole texts only."""

    def __init__(self) -> None:
        super().__init__()
        self.card = Card("other", "model", capabilities=frozenset({"embeddings"}))
