"""GPUs, with stand-ins: which model gets a GPU, which is evicted, and what happens to calls when a GPU is lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.gpu_engines.external.interpreter import interpreter, model

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import EngineFailed, Unavailable
from portico_server.features.gpu_engines.transformers.engine import Transformers
from portico_server.models import gpus as sharing
from portico_server.models import hardware
from portico_server.models.gpus import GpuShare, choose_gpus, gpu_environment
from portico_server.models.hardware import Gpu, GpuUse, Hardware, left_visible, visible_names
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
def test_the_emptiest_gpus_with_enough_memory_are_chosen(
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


# --- with vLLM's stand-in on an invented machine
# -------------------------------------------------------------


@pytest.fixture
async def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModelFixture]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "this_machine", lambda: Hardware(8, 64 * GB, (CARD, CARD)))
    monkeypatch.setattr(hardware, "gpu_use", GpuUse)
    async with model_fixture(tmp_path) as fixture:
        yield fixture


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


async def test_small_models_and_a_tensor_parallel_model_share_the_gpus(
    models: ModelFixture, tmp_path: Path
) -> None:
    await add(models, tmp_path, "a", 0.3)
    await add(models, tmp_path, "b", 0.3)
    await add(models, tmp_path, "large", 0.6, parameters={"tensor_parallel": 2})
    for name in ("a", "b", "large"):
        await models.models.load(name)
    assert (on(models, "a"), on(models, "b"), on(models, "large")) == ([0], [1], [0, 1])
    assert models.models.residency.evictions == 0


async def test_a_model_that_fits_no_gpu_is_refused_with_the_reason(
    models: ModelFixture, tmp_path: Path
) -> None:
    await add(models, tmp_path, "wide", 0.5, parameters={"tensor_parallel": 2, "pipeline_parallel": 2})
    with pytest.raises(
        Unavailable, match=r"The model is set to use 4 GPUs, but there are 2 on this machine\."
    ) as error_info:
        await models.ask("wide", HI)
    assert error_info.value.code == "model_not_loadable"
    for name in ("a", "b"):
        await add(models, tmp_path, name, 0.9, pin=True)
        await models.models.load(name)
    await add(models, tmp_path, "c", 0.5)
    with pytest.raises(Unavailable, match="a, b cannot be unloaded"):
        await models.ask("c", HI)


async def test_a_transformers_model_reserves_gpu_memory_by_its_device_and_dtype(
    models: ModelFixture, tmp_path: Path
) -> None:
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
    [failed_replica] = [replica for replica in info.replicas if replica.state == "failed"]
    assert "GPU" in (failed_replica.error or "")
    answers = await asyncio.gather(*(models.ask("m", HI) for _ in range(4)))
    assert len(answers) == 4


async def test_a_lost_gpu_is_one_error_and_the_next_call_restarts_the_engine(
    models: ModelFixture, tmp_path: Path
) -> None:
    await add(models, tmp_path, "m", 0.5, story="lost")
    await models.ask("m", HI)
    first = models.models.get("m").pid
    with pytest.raises(EngineFailed, match=r"illegal memory access.*restarts it") as error_info:
        await models.ask("m", {"messages": user("now it breaks")})
    assert error_info.value.code == "engine_lost" and error_info.value.status == 502
    assert on(models, "m") == [] and models.models.get("m").crashes == 1
    await models.ask("m", HI)
    assert models.models.get("m").pid not in (None, first)


async def test_an_engine_that_survives_running_out_of_memory_is_not_restarted(
    models: ModelFixture, tmp_path: Path
) -> None:
    await add(models, tmp_path, "m", 0.5, story="full")
    await models.ask("m", HI)
    first = models.models.get("m").pid
    with pytest.raises(EngineFailed, match="max_sequences") as error_info:
        await models.ask("m", {"messages": user("too much")})
    assert error_info.value.code == "gpu_out_of_memory"
    await models.ask("m", HI)
    assert models.models.get("m").pid == first


@pytest.mark.parametrize("engine", ["vllm", "lmdeploy"])
async def test_memory_that_other_programs_hold_is_named_before_the_engine_starts(
    models: ModelFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(hardware, "free_gpu_memory", lambda: (200 * 1024**2, 200 * 1024**2))
    source = Path(model(tmp_path, num_hidden_layers=2, hidden_size=64, num_attention_heads=4))
    with (source / "model.safetensors").open("wb") as weights:
        weights.truncate(GB)  # sparse: no data is written
    parameters = {"python": interpreter(tmp_path), "context_length": 700}
    await models.models.add(ModelSpec("m", str(source), engine=engine, parameters=parameters))
    with pytest.raises(
        Unavailable, match=r"only 0\.2 of 24\.0 GB are free: other programs use the rest"
    ) as error_info:
        await models.ask("m", HI)
    assert error_info.value.code == "gpu_memory_in_use" and on(models, "m") == []


# --- with another program on the GPUs, and a stand-in for the driver's tool ----------------------------------


TOOL = """#!/bin/sh
cd {folder}
case "$1" in *name*) cat names; exit;; esac
used0=0 used1=0
while read -r pid gpu size; do
    [ -d "/proc/$pid" ] || continue
    case "$1" in *compute-apps*) [ -e unnamed ] || echo "GPU-$gpu, $pid, $size";; esac
    if [ "$gpu" = 0 ]; then used0=$((used0 + size)); else used1=$((used1 + size)); fi
done < held
case "$1" in *uuid,memory*) echo "GPU-0, 24576, $used0"; echo "GPU-1, 24576, $used1";; esac
"""


class Driver:
    """An ``nvidia-smi`` for two GPUs: each running process uses the memory that the test set."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "names").write_text("NVIDIA RTX 4090, 24576, 8.9\n" * 2)
        self.clear()
        tool = folder / "nvidia-smi"
        tool.write_text(TOOL.format(folder=folder))
        tool.chmod(0o755)

    def clear(self) -> None:
        (self._folder / "held").write_text("")

    def hold(self, pid: int, gpu: int, size: int) -> None:
        """Let a process use ``size`` MiB of a GPU."""
        with (self._folder / "held").open("a") as file:
            file.write(f"{pid} {gpu} {size}\n")

    def allocate(self, models: ModelFixture, name: str, size: int) -> None:
        """Let a running model use ``size`` MiB on each of its GPUs."""
        info = models.models.get(name)
        assert info.pid is not None
        for gpu in info.gpus:
            self.hold(info.pid, gpu, size)

    def name_no_processes(self) -> None:
        """Report no processes, as in a container."""
        (self._folder / "unnamed").touch()


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    gpu_driver = Driver(tmp_path / "driver")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'driver'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(hardware, "this_machine", hardware.detect)
    return gpu_driver


async def test_two_daemons_share_the_gpus_of_a_machine(driver: Driver, tmp_path: Path) -> None:
    homes = (tmp_path / "one", tmp_path / "two")
    for home in homes:
        home.mkdir()
    async with model_fixture(homes[0]) as first_daemon, model_fixture(homes[1]) as two:
        await add(first_daemon, tmp_path, "a", 0.6)
        await first_daemon.ask("a", HI)
        driver.allocate(first_daemon, "a", 14_700)
        for name in ("b", "c"):
            await add(two, tmp_path, name, 0.6)
            await two.ask(name, HI)
            driver.allocate(two, name, 14_700)
        assert (on(first_daemon, "a"), on(two, "b"), on(two, "c")) == ([0], [], [1]), (
            "b left for c, and a could not"
        )
        await add(two, tmp_path, "wide", 0.6, parameters={"tensor_parallel": 2})
        with pytest.raises(
            Unavailable, match=r"other programs use 14\.4 GB of GPU 0 \(24\.0 GB\)"
        ) as error_info:
            await two.ask("wide", HI)
        assert error_info.value.code == "gpu_memory_budget" and "nvidia-smi" in error_info.value.message
        assert on(two, "c") == [1], "nobody leaves in vain"
        pid = two.models.get("c").pid
        assert await two.models.residency.gpu_memory() == [("c", 1, 14_700 << 20)] and pid is not None


async def test_a_gpu_that_others_have_filled_is_refused_before_a_start(
    driver: Driver, tmp_path: Path
) -> None:
    for gpu in (0, 1):
        driver.hold(1, gpu, 24_376)
    async with model_fixture(tmp_path) as models:
        await add(models, tmp_path, "a", 0.6)
        with pytest.raises(
            Unavailable, match=r"other programs use 23\.8 GB of GPU 0 \(24\.0 GB\), 23\.8 GB of GPU 1"
        ):
            await models.ask("a", HI)
        assert models.models.get("a").starts == 0
        driver.clear()
        driver.hold(1, 0, 24_376)
        driver.hold(1, 1, 500)
        await models.models.load("a")
        assert on(models, "a") == [1]


async def test_own_models_are_not_taken_for_other_programs_in_a_container(
    driver: Driver, tmp_path: Path
) -> None:
    driver.name_no_processes()
    async with model_fixture(tmp_path) as models:
        for name in ("a", "b"):
            await add(models, tmp_path, name, 0.4)
            await models.ask(name, HI)
            driver.allocate(models, name, 9_000)
        await add(models, tmp_path, "c", 0.5)
        await models.ask("c", HI)
        assert (on(models, "a"), on(models, "b"), on(models, "c")) == ([0], [1], [0])


def test_gpu_usage_is_parsed_despite_values_the_driver_does_not_know() -> None:
    cards = "GPU-a, 24576, 1000\nGPU-b, [N/A], [N/A]\nGPU-c, 81559, 4\n"
    programs = "GPU-a, 10, 600\nGPU-c, 10, 3\nGPU-a, 11, [N/A]\nGPU-x, 12, 5\n[Not Supported]\n"
    gpu_use = hardware.parse_gpu_use(cards, programs, None)
    assert gpu_use == GpuUse((1000 << 20, 4 << 20), {10: {0: 600 << 20, 1: 3 << 20}})
    assert hardware.parse_gpu_use(cards, programs, ["2"]) == GpuUse((4 << 20,), {10: {0: 3 << 20}})
    assert hardware.parse_gpu_use("", "", None) == GpuUse()


def test_a_model_that_needs_a_gpu_is_refused_without_one() -> None:
    with pytest.raises(Unavailable, match="no GPU"):
        sharing.check_gpus("m", [], GpuShare(1, GB), {})
