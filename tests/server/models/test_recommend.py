"""Hardware as system tools describe it, and the model recommended for it."""

from __future__ import annotations

import pytest

from portico_server.models import hardware
from portico_server.models.hardware import Gpu, Hardware
from portico_server.models.known_models import candidates, profile_of, recommend
from portico_server.models.sources import parse_source

GIB = 1024**3


def machine(cores: int, memory: float, *gpus: float) -> Hardware:
    return Hardware(cores, int(memory * GIB), tuple(Gpu("GPU", int(size * GIB)) for size in gpus))


@pytest.mark.parametrize(
    ("cores", "memory", "gpus", "name", "device"),
    [
        (1, 1, (), None, None),
        (1, 3.7, (), "qwen3-0.6b", "cpu"),
        (2, 3.9, (), "qwen3-1.7b", "cpu"),
        (2, 256, (), "qwen3-1.7b", "cpu"),
        (4, 15.5, (), "qwen3-4b-instruct", "cpu"),
        (8, 31, (), "qwen3-30b-a3b-instruct", "cpu"),
        (8, 31, (2,), "qwen3-30b-a3b-instruct", "cpu"),
        (8, 16, (6,), "qwen3-4b-instruct", "gpu"),
        (8, 16, (8,), "qwen3-8b", "gpu"),
        (8, 16, (12,), "qwen3-14b", "gpu"),
        (8, 16, (24,), "qwen3-30b-a3b-instruct", "gpu"),
        (8, 16, (12, 12), "qwen3-30b-a3b-instruct", "gpu"),
        (16, 128, (139,), "gpt-oss-120b", "gpu"),
    ],
)
def test_recommends_the_best_that_fits(
    cores: int, memory: float, gpus: tuple[float, ...], name: str | None, device: str | None
) -> None:
    recommendation = recommend(machine(cores, memory, *gpus))
    assert (recommendation and recommendation.name, recommendation and recommendation.device) == (
        name,
        device,
    )


@pytest.mark.parametrize(
    ("cores", "memory", "gpus", "is_offered"),
    [(1, 8, (), False), (2, 1.5, (), False), (2, 3.9, (), True), (16, 128, (139,), True)],
)
def test_a_search_model_is_recommended_unless_the_machine_is_too_small(
    cores: int, memory: float, gpus: tuple[float, ...], is_offered: bool
) -> None:
    recommendation = recommend(machine(cores, memory, *gpus), "embedding")
    assert (recommendation is not None) == is_offered
    if recommendation is not None:
        profile = profile_of(recommendation.source)
        assert profile is not None and profile.task == "embedding" and profile.fusion_weight is not None
        assert "by meaning" in recommendation.reason


def test_memory_and_cores_decide_when_no_engine_uses_the_gpu() -> None:
    recommendation = recommend(machine(4, 16, 80), is_accelerated=False)
    assert recommendation is not None and (recommendation.name, recommendation.device) == (
        "qwen3-4b-instruct",
        "cpu",
    )
    assert "16 GB" in recommendation.reason and "4 cores" in recommendation.reason


def test_the_table_holds_sources_that_parse_and_sizes_that_fit_their_needs() -> None:
    for row in (*candidates(), *candidates("embedding")):
        ggufs, safetensors = parse_source(row.gguf), parse_source(row.safetensors)
        assert ggufs.scheme == safetensors.scheme == "hf" and ggufs.file.endswith(".gguf")
        assert 0 < row.gguf_gb < row.safetensors_gb
        for room in (row.gpu_gb, row.cpu_gb):
            assert room is None or row.gguf_gb * 1e9 < room * GIB
        assert (row.cpu_gb is None) == (row.cpu_cores is None)


def test_reads_nvidia_smi() -> None:
    text = "NVIDIA H200, 143771\nNVIDIA GeForce RTX 4090, 24564\n"
    assert hardware.parse_nvidia_smi(text, 64 * GIB) == (
        Gpu("NVIDIA H200", 143771 * 1024**2),
        Gpu("NVIDIA GeForce RTX 4090", 24564 * 1024**2),
    )


def test_a_gpu_that_shares_the_machines_memory_gets_a_part() -> None:
    (gpu,) = hardware.parse_nvidia_smi("NVIDIA GB10, [N/A]\n", 100 * GIB)
    assert gpu.shared and gpu.memory_bytes == 70 * GIB


@pytest.mark.parametrize("text", ["", "No devices were found\n", "NVIDIA-SMI has failed, because …\n"])
def test_invalid_nvidia_smi_output_means_no_gpu(text: str) -> None:
    assert hardware.parse_nvidia_smi(text, GIB) == ()


def test_reads_sysctl_of_apple_and_of_intel() -> None:
    text = "hw.optional.arm64: 1\nmachdep.cpu.brand_string: Apple M4 Pro\n"
    assert hardware.parse_sysctl(text, 10 * GIB) == (Gpu("Apple M4 Pro", 7 * GIB, shared=True),)
    assert hardware.parse_sysctl("machdep.cpu.brand_string: Intel(R) Core(TM) i7\n", GIB) == ()


@pytest.mark.parametrize(
    ("physical", "logical", "allowed", "cores"),
    [(8, 16, 16, 8), (8, 16, 4, 2), (None, 4, 3, 3), (2, 2, 2, 2), (8, 16, 1, 1), (4, 2, 2, 2)],
)
def test_physical_cores_are_counted_within_the_allowed_set(
    physical: int | None, logical: int, allowed: int, cores: int
) -> None:
    assert hardware.usable_cores(physical, logical, allowed) == cores


def test_the_current_machine_is_detected_and_described() -> None:
    machine_facts = hardware.detect()
    assert machine_facts.cores >= 1 and machine_facts.memory_bytes > 256 * 1024**2
    assert hardware.describe(machine_facts).startswith(f"{machine_facts.cores} core")


def test_describes_equal_gpus_together() -> None:
    text = hardware.describe(machine(2, 24, 80, 80))
    assert text == "2 cores, 24 GB memory, 2 × GPU (80 GB)"
