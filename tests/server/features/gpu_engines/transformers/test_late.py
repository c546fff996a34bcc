"""Late chunking: vectors of parts that take the whole text into account, and the chunk groups that use them."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import yaml
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.gpu_engines.transformers import environment
from tests.server.features.gpu_engines.transformers.test_transformers import close, expected, spec

from portico.testing.model_fixture import ModelFixture, model_fixture
from portico_server.core.errors import PorticoError
from portico_server.core.principal import LOCAL
from portico_server.core.request import Embed, Vectors

pytestmark = [pytest.mark.timeout(300)]  # the first run builds the environment

TEXT = "ships in the harbour once upon a time"
SPANS = ((0, 5), (5, 20), (20, 37), (0, 37))
LONG = " ".join(f"the sea is bright and ship {n} is in the harbour" for n in range(40))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ModelFixture]:
    models_folder = environment.models()
    async with model_fixture(tmp_path_factory.mktemp("home"), install_engines=False) as fixture:
        await fixture.models.add(spec("vectors", models_folder / "embedding-mean"))
        await fixture.models.add(spec("first", models_folder / "embedding-cls"))
        yield fixture


async def embedded(served: ModelFixture, text: str, *spans: tuple[int, int]) -> list[list[float]]:
    result = await served.runner.call("embeddings", "vectors", Embed((text,), spans=(spans,)), LOCAL)
    assert isinstance(result, Vectors)
    return [array("f", data).tolist() for data in result.data]


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_a_span_vector_is_the_token_mean_computed_with_full_context(served: ModelFixture) -> None:
    span_vectors = await embedded(served, TEXT, *SPANS)
    assert all(
        close(vector, expected_vector)
        for vector, expected_vector in zip(span_vectors, expected("late"), strict=True)
    )
    alone = await served.ask("vectors", {"input": TEXT[:5]}, "embeddings")
    assert not close(
        span_vectors[0], alone["data"][0]["embedding"]
    )  # its vector takes the following text into account


@pytest.mark.asyncio(loop_scope="module")
async def test_a_text_longer_than_the_context_is_seen_in_windows(served: ModelFixture) -> None:
    words = LONG.split(" ")
    at, spans = 0, []
    for word in words:
        spans.append((at, at + len(word)))
        at += len(word) + 1
    span_vectors = await embedded(served, LONG, *spans, (0, len(LONG)))
    assert (
        len({tuple(vector) for vector in span_vectors}) > 100
    )  # the same word has a different vector at each position
    # A span in the middle of the first window takes that window into account, and nothing else.
    window = await embedded(served, LONG[: spans[61][1]], *spans[:40])
    assert all(
        close(vector, reference_vector)
        for vector, reference_vector in zip(window, span_vectors[:40], strict=True)
    )
    assert all(abs(sum(x * x for x in vector) - 1) < 1e-4 for vector in span_vectors)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("spans", [[], [[[3, 3]]], [[[0, 99]]], [[]], [["a"]], [[[0, 1]], [[0, 1]]]])
async def test_invalid_spans_are_refused(served: ModelFixture, spans: object) -> None:
    with pytest.raises(PorticoError, match="spans") as error_info:
        await served.ask("vectors", {"input": [TEXT], "spans": spans}, "embeddings")
    assert error_info.value.status == 400 and str(error_info.value.param).startswith("spans")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_model_without_mean_pooling_refuses_span_vectors(served: ModelFixture) -> None:
    able = {card.name for card in await served.registry.cards(LOCAL, "model") if "spans" in card.capabilities}
    assert able == {"vectors"}
    with pytest.raises(PorticoError, match="does not return vectors of parts"):
        await served.runner.call("embeddings", "first", Embed((TEXT,), spans=(((0, 5),),)), LOCAL)


# --- through the daemon -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("late")
    folder = home / "coast"
    folder.mkdir()
    (folder / "coast.txt").write_text(LONG.replace(" and", ".\n\nThen"), encoding="utf-8")
    model = {"name": "near", "engine": "transformers", "source": str(environment.models() / "embedding-mean")}
    model["parameters"] = {"threads": 1, "python": environment.interpreter()}
    plain = {"name": "plain", "source": "fake://", "task": "embedding", "aliases": ["default-embedding"]}
    configuration = home / "late.yaml"
    configuration.write_text(yaml.safe_dump({"models": [model, plain]}), encoding="utf-8")
    with daemons.running(home / "data", "--file", str(configuration), "--docs", str(folder)) as running:
        running.settle()
        yield running


@pytest.mark.slow
def test_a_late_chunked_group_is_embedded_in_context_with_its_model(daemon: Daemon) -> None:
    with httpx.Client(base_url=f"{daemon.url}/api/stores/coast", timeout=60) as http:
        group_request = {
            "name": "late",
            "chunking_strategy": {"type": "late", "size": 100},
            "embedding_model": "near",
        }
        answer = http.post("/groups", json=group_request)
        assert answer.status_code == 200, answer.text
        with http.stream("GET", f"{daemon.url}/api/runs/{answer.json()['run']}/events") as events:
            events.read()
        [late_group] = [group for group in http.get("/groups").json()["data"] if group["name"] == "late"]
        assert (late_group["completed"], late_group["failed"], late_group["embedding_model"]) == (
            1,
            0,
            "near",
        )
        body = {"query": "ship 7", "groups": ["late"], "ranker": "vector", "max_num_results": 50}
        passages = http.post("/search", json=body).json()["data"]
        assert len({passage["text"] for passage in passages}) == min(50, late_group["chunks"])
        trace = http.post("/search", json={**body, "ranker": "hybrid", "trace": True}).json()["trace"]
        assert any(stage["name"] == "vector (late)" and stage["candidates"] for stage in trace)


@pytest.mark.slow
def test_late_chunking_with_an_unsuitable_model_is_refused_with_suitable_ones(daemon: Daemon) -> None:
    with httpx.Client(base_url=f"{daemon.url}/api/stores/coast", timeout=60) as http:
        group_request = {"name": "not", "chunking_strategy": {"type": "late"}}
        error = http.post("/groups", json=group_request).json()["error"]
        assert (error["code"], error["param"]) == ("spans_unsupported", "embedding_model")
        assert "'plain'" in error["message"] and "Available models that support it: near." in error["message"]
        group_request["chunking_strategy"] = {"type": "late", "model": "near"}
        assert http.post("/groups", json=group_request).json()["error"]["param"] == "chunking_strategy.model"


def test_support_for_spans_is_known_from_the_files_before_loading(tmp_path: Path) -> None:
    from portico_server.features.gpu_engines.transformers.engine import Transformers

    models_folder = environment.models()
    engine = Transformers()
    assert engine.describe(
        spec("a", models_folder / "embedding-mean"), models_folder / "embedding-mean"
    ).spans
    assert not engine.describe(
        spec("b", models_folder / "embedding-cls"), models_folder / "embedding-cls"
    ).spans
    mean_spec = spec("c", models_folder / "embedding-cls", parameters={"pooling": "mean"})
    assert engine.describe(mean_spec, models_folder / "embedding-cls").spans
