"""GPUs: who gets which, who leaves for whom, and what happens to a call when one is lost. With stand-ins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.models.engines.external.interpreter import interpreter, model

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import EngineFailed, Unavailable
from portico_server.models import gpus as sharing
from portico_server.models import hardware
from portico_server.models.engines.transformers.engine import Transformers
from portico_server.models.gpus import GpuShare, choose_gpus, gpu_environment
from portico_server.models.hardware import Gpu, Hardware, left_visible, visible_names
from portico_server.models.plan.transformers import GPU_OVERHEAD_BYTES
from portico_server.models.spec import ModelSpec

GB = 1024**3
CARD = Gpu("NVIDIA RTX 4090", 24 * GB, capability=8.9)
HI = {"messages": user("hello")}


@pytest.mark.parametrize(
    ("held", "want", "chosen"),
    [
        ([], GpuShare(1, 10 * GB), (0,)),
        ([{0: 10 * GB}], GpuShare(1, 10 * GB), (1,)),
        ([{0: 10 * GB}], GpuShare(2, 10 * GB), (0, 1)),
        ([{0: 20 * GB}], GpuShare(2, 10 * GB), None),
        ([{0: 20 * GB}, {1: 10 * GB}], GpuShare(1, 10 * GB), (1,)),
        ([{0: 12 * GB}, {1: 12 * GB}], GpuShare(1, 12 * GB), None),
        ([], GpuShare(3, GB), None),
        ([], GpuShare(1, 23 * GB), None),
    ],
)
def test_the_emptiest_with_room_are_chosen(
    held: list[dict[int, int]], want: GpuShare, chosen: tuple[int, ...] | None
) -> None:
    assert choose_gpus([CARD, CARD], held, want) == chosen


def test_a_process_sees_its_own_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_environment(()) == {} and visible_names({}) is None
    assert gpu_environment((1,)) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-abc")
    assert gpu_environment((0, 1))["CUDA_VISIBLE_DEVICES"] == "4,GPU-abc"


def test_gpus_that_the_daemon_does_not_see_are_not_counted() -> None:
    cards = tuple(Gpu(str(number), GB) for number in range(4))
    assert left_visible(cards, None) == cards
    assert left_visible(cards, ["2", "0"]) == (cards[2], cards[0])
    assert left_visible(cards, ["GPU-x"]) == cards[:1] and left_visible(cards, []) == ()


# --- with vLLM's stand-in on a machine that is made up -------------------------------------------------------


@pytest.fixture
async def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModelFixture]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "this_machine", lambda: Hardware(8, 64 * GB, (CARD, CARD)))
    async with model_fixture(tmp_path) as built:
        yield built


async def add(
    models: ModelFixture, folder: Path, name: str, share: float, story: str = "", **more: Any
) -> None:
    parameters = {"python": interpreter(folder, story), "memory_share": share, "context_length": 700}
    parameters |= more.pop("parameters", {})
    source = model(folder, num_hidden_layers=2, hidden_size=64, num_attention_heads=4, dtype="bfloat16")
    spec = ModelSpec(name, source, engine="vllm", parameters=parameters, **more)
    await models.models.add(spec, keep=False)


def on(models: ModelFixture, name: str) -> list[int]:
    return sorted(models.models.get(name).gpus)


async def test_models_are_spread_and_leave_when_the_gpus_are_full(
    models: ModelFixture, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        await add(models, tmp_path, name, 0.6)
        await models.ask(name, HI)
    assert (on(models, "a"), on(models, "b"), on(models, "c")) == ([], [1], [0])
    assert models.models.get("a").state == "cold" and models.models.residency.evictions == 1
    assert "GPUs: 0" in models.models.logs("c", 100) and "GPUs: 1" in models.models.logs("b", 100)


async def test_two_small_ones_share_a_gpu_and_a_large_one_takes_both(
    models: ModelFixture, tmp_path: Path
) -> None:
    await add(models, tmp_path, "a", 0.3)
    await add(models, tmp_path, "b", 0.3)
    await add(models, tmp_path, "large", 0.6, parameters={"tensor_parallel": 2})
    for name in ("a", "b", "large"):
        await models.models.load(name)
    assert (on(models, "a"), on(models, "b"), on(models, "large")) == ([0], [1], [0, 1])
    assert models.models.residency.evictions == 0


async def test_what_fits_no_gpu_and_what_nobody_leaves_for_is_said(
    models: ModelFixture, tmp_path: Path
) -> None:
    await add(models, tmp_path, "wide", 0.5, parameters={"tensor_parallel": 2, "pipeline_parallel": 2})
    with pytest.raises(Unavailable, match=r"It is set to 4 GPUs, and there are 2\.") as raised:
        await models.ask("wide", HI)
    assert raised.value.code == "model_not_loadable"
    for name in ("a", "b"):
        await add(models, tmp_path, name, 0.9, pin=True)
        await models.models.load(name)
    await add(models, tmp_path, "c", 0.5)
    with pytest.raises(Unavailable, match="a, b may not leave"):
        await models.ask("c", HI)


async def test_what_runs_on_transformers_takes_its_room_too(models: ModelFixture, tmp_path: Path) -> None:
    source = model(tmp_path, architectures=["LlamaForCausalLM"], num_hidden_layers=2, hidden_size=64,
                   num_attention_heads=4, intermediate_size=128, vocab_size=500, dtype="bfloat16")  # fmt: skip
    engine = Transformers()

    def share(**parameters: Any) -> GpuShare:
        return engine.occupies(
            ModelSpec("t", source, engine="transformers", parameters=parameters), Path(source)
        )

    assert share().count == 1 and GPU_OVERHEAD_BYTES < share().memory < share(dtype="float32").memory
    assert share(device="cuda") == share()
    for elsewhere in ("cpu", "cuda:1"):
        assert share(device=elsewhere) == GpuShare(), "a GPU that is named by its number is not shared out"


async def test_replicas_take_a_gpu_each(models: ModelFixture, tmp_path: Path) -> None:
    await add(models, tmp_path, "m", 0.8, replicas=3)
    await models.models.load("m")
    info = models.models.get("m")
    assert on(models, "m") == [0, 1]
    assert sorted(replica.state for replica in info.replicas) == ["failed", "ready", "ready"]
    [failed] = [replica for replica in info.replicas if replica.state == "failed"]
    assert "GPU" in (failed.error or "")
    answers = await asyncio.gather(*(models.ask("m", HI) for _ in range(4)))
    assert len(answers) == 4


async def test_a_lost_gpu_is_one_error_and_the_next_call_starts_the_engine_anew(
    models: ModelFixture, tmp_path: Path
) -> None:
    await add(models, tmp_path, "m", 0.5, story="lost")
    await models.ask("m", HI)
    first = models.models.get("m").pid
    with pytest.raises(EngineFailed, match=r"illegal memory access.*restarts it") as raised:
        await models.ask("m", {"messages": user("now it breaks")})
    assert raised.value.code == "engine_lost" and raised.value.status == 502
    assert on(models, "m") == [] and models.models.get("m").crashes == 1
    await models.ask("m", HI)
    assert models.models.get("m").pid not in (None, first)


async def test_an_engine_that_lives_on_without_memory_is_left_alone(
    models: ModelFixture, tmp_path: Path
) -> None:
    await add(models, tmp_path, "m", 0.5, story="full")
    await models.ask("m", HI)
    first = models.models.get("m").pid
    with pytest.raises(EngineFailed, match="max_sequences") as raised:
        await models.ask("m", {"messages": user("too much")})
    assert raised.value.code == "gpu_out_of_memory"
    await models.ask("m", HI)
    assert models.models.get("m").pid == first


@pytest.mark.parametrize("engine", ["vllm", "lmdeploy"])
async def test_memory_that_other_programs_hold_is_named_before_the_engine_starts(
    models: ModelFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(hardware, "free_gpu_memory", lambda: (200 * 1024**2, 200 * 1024**2))
    source = Path(model(tmp_path, num_hidden_layers=2, hidden_size=64, num_attention_heads=4))
    with (source / "model.safetensors").open("wb") as weights:
        weights.truncate(GB)  # of holes: nothing is written
    parameters = {"python": interpreter(tmp_path), "context_length": 700}
    await models.models.add(ModelSpec("m", str(source), engine=engine, parameters=parameters))
    with pytest.raises(
        Unavailable, match=r"has 0\.2 of 24\.0 GB free: other programs hold the rest"
    ) as raised:
        await models.ask("m", HI)
    assert raised.value.code == "gpu_memory_in_use" and on(models, "m") == []


def test_the_sentences_name_numbers() -> None:
    with pytest.raises(Unavailable, match="no GPU"):
        sharing.check_gpus("m", [], GpuShare(1, GB))
