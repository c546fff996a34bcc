"""GPUs: who gets which, who leaves for whom, and what happens to a call when one is lost. With stand-ins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.engines.bench import Bench, bench, user
from tests.server.engines.guest.interpreter import interpreter, model

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
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "this_machine", lambda: Hardware(8, 64 * GB, (CARD, CARD)))
    async with bench(tmp_path) as built:
        yield built


async def add(house: Bench, folder: Path, name: str, share: float, story: str = "", **more: Any) -> None:
    parameters = {"python": interpreter(folder, story), "memory_share": share, "context_length": 700}
    parameters |= more.pop("parameters", {})
    source = model(folder, num_hidden_layers=2, hidden_size=64, num_attention_heads=4, dtype="bfloat16")
    spec = ModelSpec(name, source, engine="vllm", parameters=parameters, **more)
    await house.models.add(spec, keep=False)


def on(house: Bench, name: str) -> list[int]:
    return sorted(house.models.get(name).gpus)


async def test_models_are_spread_and_leave_when_the_gpus_are_full(house: Bench, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        await add(house, tmp_path, name, 0.6)
        await house.ask(name, HI)
    assert (on(house, "a"), on(house, "b"), on(house, "c")) == ([], [1], [0])
    assert house.models.get("a").state == "cold" and house.models.residency.evictions == 1
    assert "GPUs: 0" in house.models.logs("c", 100) and "GPUs: 1" in house.models.logs("b", 100)


async def test_two_small_ones_share_a_gpu_and_a_large_one_takes_both(house: Bench, tmp_path: Path) -> None:
    await add(house, tmp_path, "a", 0.3)
    await add(house, tmp_path, "b", 0.3)
    await add(house, tmp_path, "large", 0.6, parameters={"tensor_parallel": 2})
    for name in ("a", "b", "large"):
        await house.models.load(name)
    assert (on(house, "a"), on(house, "b"), on(house, "large")) == ([0], [1], [0, 1])
    assert house.models.residency.evictions == 0


async def test_what_fits_no_gpu_and_what_nobody_leaves_for_is_said(house: Bench, tmp_path: Path) -> None:
    await add(house, tmp_path, "wide", 0.5, parameters={"tensor_parallel": 2, "pipeline_parallel": 2})
    with pytest.raises(Unavailable, match=r"needs 12\.0 GB on 4 GPUs, and this machine has 2 GPUs") as raised:
        await house.ask("wide", HI)
    assert raised.value.code == "gpu_memory_budget"
    for name in ("a", "b"):
        await add(house, tmp_path, name, 0.9, pin=True)
        await house.models.load(name)
    await add(house, tmp_path, "c", 0.5)
    with pytest.raises(Unavailable, match="a, b may not leave"):
        await house.ask("c", HI)


async def test_what_runs_on_transformers_takes_its_room_too(house: Bench, tmp_path: Path) -> None:
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


async def test_replicas_take_a_gpu_each(house: Bench, tmp_path: Path) -> None:
    await add(house, tmp_path, "m", 0.8, replicas=3)
    await house.models.load("m")
    info = house.models.get("m")
    assert on(house, "m") == [0, 1]
    assert sorted(replica.state for replica in info.replicas) == ["failed", "ready", "ready"]
    [failed] = [replica for replica in info.replicas if replica.state == "failed"]
    assert "GPU" in (failed.error or "")
    answers = await asyncio.gather(*(house.ask("m", HI) for _ in range(4)))
    assert len(answers) == 4


async def test_a_lost_gpu_is_one_error_and_the_next_call_starts_the_engine_anew(
    house: Bench, tmp_path: Path
) -> None:
    await add(house, tmp_path, "m", 0.5, story="lost")
    await house.ask("m", HI)
    first = house.models.get("m").pid
    with pytest.raises(EngineFailed, match=r"illegal memory access.*restarts it") as raised:
        await house.ask("m", {"messages": user("now it breaks")})
    assert raised.value.code == "engine_lost" and raised.value.status == 502
    assert on(house, "m") == [] and house.models.get("m").crashes == 1
    await house.ask("m", HI)
    assert house.models.get("m").pid not in (None, first)


async def test_an_engine_that_lives_on_without_memory_is_left_alone(house: Bench, tmp_path: Path) -> None:
    await add(house, tmp_path, "m", 0.5, story="full")
    await house.ask("m", HI)
    first = house.models.get("m").pid
    with pytest.raises(EngineFailed, match="max_sequences") as raised:
        await house.ask("m", {"messages": user("too much")})
    assert raised.value.code == "gpu_out_of_memory"
    await house.ask("m", HI)
    assert house.models.get("m").pid == first


def test_the_sentences_name_numbers() -> None:
    with pytest.raises(Unavailable, match="no GPU"):
        sharing.check_gpus("m", [], GpuShare(1, GB))
