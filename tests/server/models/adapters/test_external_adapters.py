"""Adapters on vLLM and LMDeploy (stand-ins that check their arguments), on fake models, and on engines without
adapters.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.gpu_engines.external.interpreter import interpreter, model
from tests.server.models.adapters import peft_files
from tests.server.models.adapters.peft_files import pairs, safetensors, write

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError
from portico_server.models.spec import AdapterSpec, ModelSpec

HI = {"messages": user("hi")}


def adapter(folder: Path, rank: int = 8, **config: Any) -> Path:
    return write(folder, pairs(1, {"self_attn.q_proj": (16, 16)}, rank), **config)


async def guest(models: ModelFixture, folder: Path, engine: str, script: Any = (), **parameters: Any) -> None:
    spec = ModelSpec(
        "m",
        model(folder),
        engine=engine,
        parameters={"python": interpreter(folder, script=script), **parameters},
    )
    await models.models.add(spec)


async def said(models: ModelFixture, name: str) -> str:
    text: str = (await models.ask(name, HI))["choices"][0]["message"]["content"]
    return text


def log(models: ModelFixture) -> str:
    return "\n".join(models.models.logs("m", 200))


# --- vLLM ---------------------------------------------------------------------------------------------------


async def test_vllm_takes_adapters_while_it_runs(models: ModelFixture, tmp_path: Path) -> None:
    await guest(models, tmp_path, "vllm", adapter_rank=16)
    assert await said(models, "m") == "hi"
    pid_before = models.models.get("m").pid
    info = await models.models.adapters.add("m", adapter(tmp_path / "a"), "ft:m:portico:x:1")
    assert info.state == "ready" and await said(models, "ft:m:portico:x:1") == "ft:m:portico:x:1 at 2"
    await models.models.adapters.scale("ft:m:portico:x:1", 0.25)
    assert await said(models, "ft:m:portico:x:1") == "ft:m:portico:x:1 at 0.5"
    await models.models.adapters.remove("ft:m:portico:x:1")
    assert log(models).count("unloaded ft:m:portico:x:1") == 2
    assert models.models.get("m").pid == pid_before and await said(models, "m") == "hi"


async def test_vllm_restarts_once_for_its_first_adapter_and_for_a_higher_rank(
    models: ModelFixture, tmp_path: Path
) -> None:
    slow = [{"match": "slow", "content": "one two three four", "interval": 0.1}]
    await guest(models, tmp_path, "vllm", slow)
    await said(models, "m")
    pids = [models.models.get("m").pid]
    call = asyncio.create_task(models.stream("m", {"messages": user("slow")}))
    for name, rank in (("first", 8), ("second", 16), ("large", 48)):
        await models.models.adapters.add("m", adapter(tmp_path / name, rank), name)
        pids.append(models.models.get("m").pid)
    stream = await call
    assert stream.done and stream.text() == "one two three four", "a call in flight is answered"
    assert pids[0] != pids[1] == pids[2] != pids[3]
    assert [await said(models, name) for name in ("first", "second", "large")] == [
        "first at 2",
        "second at 2",
        "large at 2",
    ]
    assert '"--max-lora-rank", "64"' in log(models)


async def test_vllm_loads_adapters_again_after_a_new_start(models: ModelFixture, tmp_path: Path) -> None:
    await guest(models, tmp_path, "vllm")
    await models.models.adapters.add("m", adapter(tmp_path / "a"), "a", scale=2)
    assert models.models.adapters.get("a").state == "cold", "nothing was started for it"
    assert await said(models, "a") == "a at 4"
    await models.models.unload("m")
    assert await said(models, "a") == "a at 4"


async def test_an_adapter_that_vllm_refuses_is_not_stored(models: ModelFixture, tmp_path: Path) -> None:
    await guest(models, tmp_path, "vllm", adapter_rank=16)
    await said(models, "m")
    for folder, says in (
        (adapter(tmp_path / "p", rank_pattern={"q_proj": 8}), "rank_pattern"),
        (adapter(tmp_path / "r", 600), "at most 512"),
    ):
        with pytest.raises(InvalidRequest, match=says):
            await models.models.adapters.add("m", folder, "bad")
    assert list(models.settings.adapters.iterdir()) == [] and models.registry.get("bad") is None


# --- LMDeploy -----------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_lmdeploy_gets_its_adapters_when_it_starts(models: ModelFixture, tmp_path: Path) -> None:
    await guest(models, tmp_path, "lmdeploy", context_length=512)
    await said(models, "m")
    for name in ("a", "b"):
        await models.models.adapters.add("m", adapter(tmp_path / name, lora_alpha=8), name)
    assert [await said(models, name) for name in ("a", "b", "m")] == ["a at 1", "b at 1", "hi"]
    await models.models.adapters.scale("a", 0.5)
    assert [await said(models, name) for name in ("a", "b")] == ["a at 0.5", "b at 1"]
    await models.models.adapters.remove("a")
    with pytest.raises(NotFound):
        await said(models, "a")
    assert await said(models, "b") == "b at 1"


async def test_adapters_are_refused_on_lmdeploys_turbomind_backend(
    models: ModelFixture, tmp_path: Path
) -> None:
    await guest(models, tmp_path, "lmdeploy", backend="turbomind")
    with pytest.raises(InvalidRequest, match="turbomind, which does not support adapters"):
        await models.models.adapters.add("m", adapter(tmp_path / "a"), "a")


# --- both -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["vllm", "lmdeploy"])
@pytest.mark.parametrize(
    ("blocks", "layers", "says"),
    [
        (
            1,
            {"self_attn.q_proj": (32, 32)},
            "has 32 inputs and 32 outputs in the adapter, 16 and 16 in the base model",
        ),
        (3, {"self_attn.q_proj": (16, 16)}, "layers.2.self_attn.q_proj', but the base model has 2 layers"),
    ],
)
async def test_an_adapter_of_another_base_is_refused(
    models: ModelFixture, tmp_path: Path, engine: str, blocks: int, layers: Any, says: str
) -> None:
    await guest(models, tmp_path, engine)
    tensors = {f"model.layers.{n}.self_attn.q_proj.weight": ("F32", (16, 16), bytes(1024)) for n in range(2)}
    (tmp_path / "model" / "model.safetensors").write_bytes(safetensors(tensors))
    assert await said(models, "m") == "hi"
    pid_before = models.models.get("m").pid
    with pytest.raises(InvalidRequest, match=f"{says}. It was trained on another model") as error_info:
        await models.models.adapters.add("m", write(tmp_path / "a", pairs(blocks, layers, 4)), "a")
    assert (error_info.value.code, error_info.value.param) == ("adapter_invalid", "path")
    assert list(models.settings.adapters.iterdir()) == [] and models.registry.get("a") is None
    assert await said(models, "m") == "hi" and models.models.get("m").pid == pid_before, (
        "nobody was disturbed"
    )


# --- fake models --------------------------------------------------------------------------------------------

SLOW = [{"match": "slow", "content": "one two three four five", "interval": 0.05}]


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(f"- {{content: {text}}}\n")
    return path


async def test_an_adapter_of_a_fake_model_has_a_script_of_its_own(
    models: ModelFixture, tmp_path: Path
) -> None:
    await models.models.add(ModelSpec("m", "fake://"))
    await models.models.adapters.add("m", script(tmp_path, "a", "bonjour"), "a")
    assert [await said(models, name) for name in ("a", "m")] == ["bonjour", "hi"]
    with pytest.raises(InvalidRequest, match="YAML script"):
        await models.models.adapters.add("m", adapter(tmp_path / "p"), "p")


async def test_calls_during_the_change_are_answered_by_one_process_or_the_next(
    models: ModelFixture, tmp_path: Path
) -> None:
    await models.models.add(ModelSpec("m", "fake://", parameters={"script": SLOW}))
    await said(models, "m")
    first = models.models.get("m").pid
    streams = [asyncio.create_task(models.stream("m", {"messages": user("slow")})) for _ in range(4)]
    adding = asyncio.create_task(models.models.adapters.add("m", script(tmp_path, "a", "x"), "a"))
    calls = [asyncio.create_task(models.ask("m", HI)) for _ in range(20)]
    await adding
    for stream in streams:
        stream_result = await stream
        assert stream_result.done and stream_result.error is None
    assert len([await call for call in calls]) == 20
    assert models.models.get("m").pid != first and models.models.get("m").crashes == 0


async def test_every_replica_of_a_model_receives_an_adapter(models: ModelFixture, tmp_path: Path) -> None:
    await models.models.add(ModelSpec("m", "fake://", replicas=2))
    await models.models.load("m")
    await models.models.adapters.add("m", script(tmp_path, "a", "bonjour"), "a")
    answers = await asyncio.gather(*(said(models, "a") for _ in range(8)))
    assert answers == ["bonjour"] * 8


async def test_two_adapters_of_one_content_share_its_files(models: ModelFixture, tmp_path: Path) -> None:
    await models.models.add(ModelSpec("m", "fake://"))
    for name in ("a", "b"):
        await models.models.adapters.add("m", script(tmp_path, name, "x"), name)
    assert len(list(models.settings.adapters.iterdir())) == 1
    await models.models.adapters.remove("a")
    assert await said(models, "b") == "x"
    await models.models.adapters.remove("b")
    assert list(models.settings.adapters.iterdir()) == []


async def test_configured_adapters_are_read_only_and_removed_with_their_configuration(tmp_path: Path) -> None:
    path = script(tmp_path, "a", "bonjour")
    spec = ModelSpec("m", "fake://", adapters=(AdapterSpec("a", str(path), 0.5),))
    assert ModelSpec.from_json(spec.to_json()) == spec
    async with model_fixture(tmp_path) as daemon:
        await daemon.models.add(spec, keep=False)
        assert await said(daemon, "a") == "bonjour" and daemon.models.adapters.get("a").configured
        for change in (daemon.models.adapters.scale("a", 1), daemon.models.adapters.remove("a")):
            with pytest.raises(PorticoError, match="is defined in the configuration file"):
                await change
    async with model_fixture(tmp_path) as daemon:
        await daemon.models.add(ModelSpec("m", "fake://"), keep=False)
        assert daemon.models.adapters.list() == [], "what is not configured any more is gone"


# --- none ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (ModelSpec("m", "http://127.0.0.1:9/v1#x"), "Add adapters of a remote model on its own server"),
        (ModelSpec("m", "static://wordllama"), "does not support adapters"),
        (ModelSpec("m", "fake://", task="embedding"), "is not a chat model"),
    ],
)
async def test_models_without_adapter_support_refuse_adapters(
    models: ModelFixture, tmp_path: Path, spec: ModelSpec, says: str
) -> None:
    await models.models.add(spec)
    with pytest.raises(InvalidRequest) as error_info:
        await models.models.adapters.add("m", peft_files.smollm(tmp_path / "a"), "a")
    assert says in error_info.value.message and error_info.value.code == "adapters_unsupported"


async def test_an_adapter_for_an_unknown_base_is_not_found(models: ModelFixture, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await models.models.adapters.add("nothing", tmp_path, "a")
    with pytest.raises(NotFound):
        models.models.adapters.list("nothing")
