"""Plans: model × hardware → engine, parameters, whether the model fits, and what would fit if it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.server.models.conftest import MODELS
from tests.server.models.hubs import Hub, serving
from tests.server.models.model_files import LLAMA, gguf

from portico.testing.model_fixture import model_fixture
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.features.gpu_engines.lmdeploy.engine import LmDeploy
from portico_server.features.gpu_engines.vllm.engine import Vllm
from portico_server.models.catalog import engine_for
from portico_server.models.gguf import Gguf
from portico_server.models.plan import choice
from portico_server.models.plan.machines import machine_preset, machine_presets
from portico_server.models.plan.outcome import PlanOutcome
from portico_server.models.plan.planned_parameters import fill_parameters, gpu_engine
from portico_server.models.plan.weight_files import read_weights
from portico_server.models.plan.weights import ModelWeights, weights_from_config
from portico_server.models.spec import ModelSpec

GB = 1024**3
VLLM, LMDEPLOY = Vllm(), LmDeploy()
plan_model = partial(
    choice.plan_model, servers={engine.name: engine.gpu_traits for engine in (VLLM, LMDEPLOY)}
)


def file(
    size: float,
    parameters: float,
    layers: int,
    heads: int,
    kv_heads: int,
    width: int,
    quantisation: str = "Q4_K_M",
) -> Gguf:
    """Return a GGUF file of ``size`` GB and ``parameters`` billion parameters; heads are 128 wide."""
    return Gguf(
        architecture="qwen3",
        name="model",
        kind="model",
        context_length=40_960,
        embedding_length=width,
        block_count=layers,
        head_count=heads,
        head_count_kv=kv_heads,
        vocabulary=151_936,
        chat_template=True,
        pooling="",
        quantisation=quantisation,
        parameters=int(parameters * 1e9),
        tensors=1,
        split_count=1,
        end_offset=1,
        file_size=int(size * GB),
        values={"qwen3.attention.key_length": 128, "qwen3.attention.value_length": 128},
    )


FILES = {
    "0.6b": file(0.5, 0.6, 28, 16, 8, 1024),
    "4b": file(2.3, 4.0, 36, 32, 8, 2560),
    "8b": file(4.7, 8.2, 36, 32, 8, 4096),
    "8b-f16": file(15.3, 8.2, 36, 32, 8, 4096, "F16"),
    "14b": file(8.4, 14.8, 40, 40, 8, 5120),
    "32b": file(18.4, 32.8, 64, 64, 8, 5120),
    "70b": file(39.6, 70.6, 80, 64, 8, 8192),
}

CASES = [
    # file, hardware, fits, slots, context
    ("0.6b", "cpu-8g", True, 2, 8_192),
    ("0.6b", "cpu-16g", True, 2, 8_192),
    ("0.6b", "mac-m1-8g", True, 2, 8_192),
    ("0.6b", "cpu-64g", True, 2, 8_192),
    ("4b", "cpu-8g", True, 1, 14_336),
    ("4b", "cpu-16g", True, 2, 8_192),
    ("4b", "mac-m1-8g", True, 1, 14_336),
    ("4b", "mac-m3-24g", True, 2, 8_192),
    ("4b", "rtx4090", True, 2, 8_192),
    ("8b", "cpu-8g", True, 1, 7_936),
    ("8b", "cpu-16g", True, 2, 14_336),
    ("8b", "mac-m1-8g", True, 1, 5_120),
    ("8b", "mac-m3-24g", True, 4, 8_448),
    ("8b", "cpu-64g", True, 4, 8_448),
    ("8b-f16", "cpu-16g", False, 1, 512),
    ("8b-f16", "mac-m3-24g", True, 1, 9_472),
    ("8b-f16", "cpu-64g", True, 4, 27_648),
    ("14b", "cpu-16g", True, 2, 11_008),
    ("14b", "mac-m3-24g", True, 4, 9_728),
    ("14b", "rtx3060", True, 4, 13_056),
    ("32b", "mac-m3-24g", False, 1, 512),
    ("32b", "cpu-64g", True, 4, 16_384),
    ("32b", "mac-m4-max-128g", True, 4, 18_688),
    ("70b", "cpu-64g", True, 2, 13_056),
    ("70b", "mac-m4-max-128g", True, 4, 26_112),
    ("70b", "cpu-512g", True, 4, 32_256),
]


@pytest.mark.parametrize(("model", "hardware", "fits", "slots", "context"), CASES)
def test_a_gguf_plan_has_slots_and_context_for_the_machine(
    model: str, hardware: str, fits: bool, slots: int, context: int
) -> None:
    plan = plan_model(FILES[model], machine_preset(hardware))
    assert plan.engine == "llamacpp"
    assert (plan.fits, plan.parameters["slots"], plan.parameters["context_length"]) == (fits, slots, context)
    sound(plan)
    assert plan.estimate.device == ("gpu" if hardware.startswith("mac") else "cpu")


@pytest.mark.parametrize(
    ("vocabulary", "hardware", "parameters", "context"),
    [
        (30_522, "cpu-8g", {}, 8_192),
        (180_000, "cpu-8g", {}, 1_280),
        (250_002, "cpu-8g", {}, 1_024),
        (250_002, "cpu-64g", {}, 8_192),
        (250_002, "cpu-8g", {"context_length": 2_048}, 2_048),
    ],
)
def test_embedding_context_is_limited_by_the_memory_of_vocabulary_scores(
    vocabulary: int, hardware: str, parameters: dict[str, Any], context: int
) -> None:
    encoder = replace(file(0.1, 0.1, 12, 12, 12, 384), pooling="mean", vocabulary=vocabulary)
    plan = plan_model(encoder, machine_preset(hardware), parameters)
    assert plan.parameters["context_length"] == context
    assert plan.estimate.other >= context * vocabulary * 4
    sound(plan)


def weights(size: float, layers: int, heads: int, kv_heads: int, **more: Any) -> ModelWeights:
    """Return safetensors weights of ``size`` GB; heads are 128 wide."""
    cache = layers * kv_heads * 2 * 128 * 2
    fields: dict[str, Any] = {"dtype": "bfloat16", "context_length": 40_960, "cache_per_token": cache, **more}
    return ModelWeights("model", "Qwen3ForCausalLM", int(size * GB), heads=heads, kv_heads=kv_heads, **fields)


WEIGHTS = {
    "0.6b": weights(1.4, 28, 16, 8),
    "8b": weights(15.3, 36, 32, 8),
    "32b": weights(61.0, 64, 64, 8),
    "32b-awq": weights(18.0, 64, 64, 8, quantisation="awq", dtype="float16"),
    "70b": weights(131.4, 80, 64, 8, context_length=131_072),
    "70b-fp8": weights(67.7, 80, 64, 8, quantisation="fp8", context_length=131_072),
    "671b-fp8": weights(
        641.0, 61, 128, 1, quantisation="fp8", context_length=163_840, cache_per_token=70_272
    ),
    "odd-heads": weights(30.0, 40, 25, 5),
    "reranker": weights(1.1, 24, 16, 16, ranks=True, context_length=512, dtype="float32"),
    "encoder": weights(2.1, 24, 16, 16, encoder=True, context_length=8_192, dtype="float16"),
}

GPU_CASES = [
    # weights, hardware, fits, tensor parallel, context
    ("0.6b", "t4", True, 1, 40_960),
    ("0.6b", "rtx4090", True, 1, 40_960),
    ("0.6b", "h200x2", True, 1, 40_960),
    ("8b", "t4", False, 1, 0),
    ("8b", "rtx3060", False, 1, 0),
    ("8b", "l4", True, 1, 21_248),
    ("8b", "rtx4090", True, 1, 31_232),
    ("8b", "rtx4090x2", True, 2, 40_960),
    ("8b", "rtx5090", True, 1, 40_960),
    ("8b", "a100", True, 1, 40_960),
    ("32b", "rtx4090x2", False, 2, 0),
    ("32b", "a100", True, 1, 36_864),
    ("32b", "h100", True, 1, 36_864),
    ("32b", "h200", True, 1, 40_960),
    ("32b-awq", "rtx4090", True, 1, 6_400),
    ("32b-awq", "rtx4090x2", True, 2, 40_960),
    ("32b-awq", "a100", True, 1, 40_960),
    ("70b", "h200", False, 1, 0),
    ("70b", "h200x2", True, 2, 131_072),
    ("70b", "h100x8", True, 4, 131_072),
    ("70b-fp8", "a100", True, 1, 7_424),
    ("70b-fp8", "h200", True, 1, 131_072),
    ("671b-fp8", "h200x2", False, 2, 0),
    ("671b-fp8", "h100x8", False, 8, 0),
    ("odd-heads", "rtx4090x2", False, 1, 0),
    ("encoder", "t4", True, 1, 8_192),
    ("encoder", "h100", True, 1, 8_192),
]


@pytest.mark.parametrize(("model", "hardware", "fits", "parallel", "context"), GPU_CASES)
def test_safetensors_are_planned_on_vllm_with_parallelism_and_context(
    model: str, hardware: str, fits: bool, parallel: int, context: int
) -> None:
    plan = plan_model(WEIGHTS[model], machine_preset(hardware))
    assert plan.engine == "vllm"
    assert (plan.fits, plan.parameters["tensor_parallel"]) == (fits, parallel)
    if fits:
        assert plan.parameters["context_length"] == context
    sound(plan)


@pytest.mark.parametrize(
    ("model", "hardware", "parameters", "fits", "parallel"),
    [
        ("671b-fp8", "2 nodes, 8 x H100", {}, True, (8, 2)),
        ("671b-fp8", "4 nodes, 8 x H100", {}, True, (8, 2)),
        ("671b-fp8", "4 nodes, 8 x A100 80GB", {}, True, (8, 2)),
        ("671b-fp8", "2 nodes, 2 x H200", {}, False, (2, 2)),
        ("671b-fp8", "4 nodes, 2 x H200", {}, True, (2, 3)),
        ("671b-fp8", "8 nodes, A100 80GB", {}, False, (1, 8)),
        ("70b", "4 nodes, H100", {}, True, (1, 2)),
        ("8b", "4 nodes, 8 x H100", {}, True, (1, 1)),
        ("8b", "2 nodes, 2 x H100", {"tensor_parallel": 4}, True, (4, 1)),
        ("8b", "2 nodes, 2 x H100", {"tensor_parallel": 8}, False, (8, 1)),
    ],
)
def test_safetensors_on_several_nodes_use_the_fewest(
    model: str, hardware: str, parameters: dict[str, Any], fits: bool, parallel: tuple[int, int]
) -> None:
    plan = plan_model(WEIGHTS[model], machine_preset(hardware), parameters)
    assert (plan.engine, plan.fits) == ("vllm", fits), plan.reasons
    nodes = plan.parameters.get("pipeline_parallel", 1)
    assert (plan.parameters["tensor_parallel"], nodes) == parallel
    assert any(f"nodes={nodes} and gpus={parallel[0]}" in reason for reason in plan.reasons) == (nodes > 1)
    sound(plan)


@pytest.mark.parametrize("hardware", ["cpu-16g", "mac-m3-24g"])
def test_safetensors_that_do_not_fit_without_a_gpu_are_refused_with_a_file_that_fits(hardware: str) -> None:
    plan = plan_model(WEIGHTS["8b"], machine_preset(hardware))
    assert plan.engine == "transformers" and not plan.fits
    assert "Q4_K_M takes about 4.6 GB" in plan.nearest
    sound(plan)


TRANSFORMERS_CASES = [
    ("0.6b", "cpu-16g", "auto", True, "float32", "cpu"),
    ("8b", "cpu-64g", "auto", True, "bfloat16", "cpu"),
    ("32b", "cpu-64g", "auto", False, "bfloat16", "cpu"),
    ("encoder", "cpu-8g", "auto", True, "float32", "cpu"),
    ("encoder", "mac-m3-24g", "auto", True, "float16", "gpu"),
    ("reranker", "cpu-8g", "auto", True, "float32", "cpu"),
    ("reranker", "t4", "auto", True, "float16", "gpu"),
    ("reranker", "h100", "auto", True, "bfloat16", "gpu"),
    ("8b", "h100", "transformers", True, "bfloat16", "gpu"),
    ("8b", "t4", "transformers", False, "float16", "gpu"),
]


@pytest.mark.parametrize(("model", "hardware", "engine", "fits", "dtype", "device"), TRANSFORMERS_CASES)
def test_safetensors_are_planned_on_transformers_with_dtype_and_device(
    model: str, hardware: str, engine: str, fits: bool, dtype: str, device: str
) -> None:
    plan = plan_model(WEIGHTS[model], machine_preset(hardware), engine=engine)
    assert (plan.engine, plan.fits) == ("transformers", fits)
    assert (plan.parameters["dtype"], plan.estimate.device) == (dtype, device)
    assert "one call at a time" in plan.reasons[1]
    sound(plan)


def test_quantised_safetensors_without_a_gpu_are_for_no_engine() -> None:
    plan = plan_model(WEIGHTS["32b-awq"], machine_preset("cpu-64g"))
    assert not plan.fits and "NVIDIA" in plan.reasons[1] and "Q4_K_M" in plan.nearest


def sound(made: PlanOutcome) -> None:
    """Check what must be true of every plan."""
    assert made.reasons and all(reason.endswith((".", ".)")) for reason in made.reasons)
    assert made.fits == (made.nearest == "")
    if made.fits:
        assert 0 < made.estimate.total <= made.estimate.available
    document = json.loads(json.dumps(made.to_json()))
    assert document["estimate"]["total"] == made.estimate.total


@pytest.mark.parametrize(
    ("model", "hardware", "parameters", "nearest"),
    [
        (FILES["8b"], "cpu-8g", {"context_length": 32_768}, "context_length 4096 and slots 1"),
        (FILES["4b"], "cpu-8g", {"slots": 4, "context_length": 32_768}, "context_length 8192 and slots 1"),
        (FILES["8b-f16"], "cpu-16g", {}, "A Q4_K_M file of the same model, about 4.6 GB, fits"),
        (FILES["70b"], "cpu-16g", {}, "qwen3-4b-instruct"),
        (FILES["70b"], "mac-m3-24g", {}, "qwen3-14b"),
        (WEIGHTS["8b"], "rtx4090", {"context_length": 65_536}, "context_length 31"),
        (WEIGHTS["8b"], "NVIDIA L4, 64 GB", {"memory_share": 0.7}, "quantization fp8"),
        (WEIGHTS["8b"], "t4", {}, "4-bit weights"),
        (WEIGHTS["70b"], "rtx4090", {}, "GGUF"),
        (WEIGHTS["671b-fp8"], "rtx4090", {}, "A model that fits is"),
    ],
)
def test_a_plan_that_does_not_fit_names_the_nearest_alternative(
    model: Gguf | ModelWeights, hardware: str, parameters: dict[str, Any], nearest: str
) -> None:
    plan = plan_model(model, machine_preset(hardware), parameters)
    assert not plan.fits and nearest in plan.nearest


def test_an_old_gpu_computes_in_float16_and_keeps_weights_in_fp8() -> None:
    assert plan_model(WEIGHTS["0.6b"], machine_preset("t4")).parameters["dtype"] == "float16"
    assert plan_model(WEIGHTS["0.6b"], machine_preset("l4")).parameters["dtype"] == "bfloat16"
    small = weights(4.0, 36, 32, 8, quantisation="fp8")
    assert plan_model(small, machine_preset("l4")).fits
    plan = plan_model(small, machine_preset("a100"))
    assert plan.fits and any(
        "stores weights in FP8 and computes in bfloat16" in reason for reason in plan.reasons
    )
    mxfp4 = weights(13.0, 24, 64, 8, quantisation="mxfp4")
    plan = plan_model(mxfp4, machine_preset("t4"))
    assert not plan.fits and "compute capability 8.0" in plan.reasons[-1]
    plan = plan_model(WEIGHTS["0.6b"], machine_preset("2 x V100 32GB"))
    assert not plan.fits and "vLLM needs compute capability 7.5" in plan.reasons[-1]


SET = [
    # weights, hardware, what the user sets, fits, a part of the estimate in GB
    ("8b", "rtx4090", {"quantization": "fp8"}, True, ("weights", 8.4)),
    ("8b", "t4", {"quantization": "fp8"}, True, ("weights", 8.4)),
    ("8b", "rtx3060", {"quantization": "bitsandbytes"}, True, ("weights", 5.4)),
    ("8b", "rtx4090", {"memory_share": 0.7}, False, ("available", 16.8)),
    ("8b", "rtx4090", {"memory_share": 0.98}, True, ("available", 23.5)),
    ("8b", "rtx4090", {"context_length": 60_000}, True, ("weights", 15.3)),
    ("8b", "rtx4090", {"context_length": 60_000, "kv_cache_dtype": "auto"}, False, ("weights", 15.3)),
    ("8b", "rtx4090", {"context_length": 60_000, "kv_cache_dtype": "fp8"}, True, ("cache", 4.2)),
    ("8b", "rtx4090x2", {"tensor_parallel": 2}, True, ("weights", 7.6)),
    ("8b", "rtx4090x2", {"pipeline_parallel": 2}, True, ("weights", 7.6)),
    ("8b", "rtx4090", {"tensor_parallel": 2}, False, ("weights", 7.6)),
    ("8b", "rtx4090x2", {"tensor_parallel": 2, "data_parallel": 2}, False, ("weights", 7.6)),
    ("0.6b", "h200", {"max_sequences": 2, "context_length": 8_192}, True, ("cache", 1.75)),
]


@pytest.mark.parametrize(("model", "hardware", "given", "fits", "part"), SET)
def test_the_plan_reads_what_the_user_set(
    model: str, hardware: str, given: dict[str, Any], fits: bool, part: tuple[str, float]
) -> None:
    plan = plan_model(WEIGHTS[model], machine_preset(hardware), given, engine="vllm")
    assert plan.fits == fits, plan.reasons
    assert getattr(plan.estimate, part[0]) / GB == pytest.approx(part[1], rel=0.03)
    assert given.items() <= plan.parameters.items()
    sound(plan)


@pytest.mark.parametrize(
    ("model", "hardware", "given", "decided"),
    [
        ("8b", "t4", {}, "The weights alone need 15.3 GB"),
        ("32b", "a100", {"memory_share": 0.5}, "The weights alone need 61.0 GB"),
        ("8b", "rtx4090", {"context_length": 65_536}, "A call of 65,536 tokens needs 9.0 GB of cache"),
        (
            "8b",
            "rtx4090",
            {"tensor_parallel": 4},
            "The model is set to use 4 GPUs, but there is 1 on this machine.",
        ),
    ],
)
def test_the_last_reason_is_the_one_that_decided(
    model: str, hardware: str, given: dict[str, Any], decided: str
) -> None:
    assert decided in plan_model(WEIGHTS[model], machine_preset(hardware), given).reasons[-1]


GPT_OSS = weights(
    12.8, 24, 64, 8, quantisation="mxfp4", context_length=131_072, window=128, window_per_token=24_576
)
CHOSEN = [
    # weights, hardware, what the user sets, engine, a parameter, what vLLM lacks
    ("8b", "rtx4090", {"context_length": 60_000}, "vllm", ("kv_cache_dtype", "fp8"), ""),
    ("32b", "a100", {"context_length": 65_536}, "lmdeploy", ("kv_cache_bits", 8), "needs 16.0 GB of cache"),
    ("gpt-oss", "2 x T4", {}, "lmdeploy", ("tensor_parallel", 2), "compute capability 8.0"),
    ("gpt-oss", "rtx4090", {}, "vllm", ("tensor_parallel", 1), ""),
]


@pytest.mark.parametrize(("model", "hardware", "given", "engine", "part", "lacking"), CHOSEN)
def test_lmdeploy_is_planned_when_it_can_run_a_model_and_vllm_cannot(
    model: str, hardware: str, given: dict[str, Any], engine: str, part: tuple[str, Any], lacking: str
) -> None:
    model_weights = {"gpt-oss": replace(GPT_OSS, architecture="GptOssForCausalLM"), **WEIGHTS}[model]
    plan = plan_model(model_weights, machine_preset(hardware), given)
    assert plan.fits and plan.engine == engine and plan.parameters[part[0]] == part[1]
    lmdeploy_reasons = [
        reason for reason in plan.reasons if reason.startswith("LMDeploy can run it, but vLLM cannot.")
    ]
    assert len(lmdeploy_reasons) == (engine == "lmdeploy") and all(
        lacking in reason for reason in lmdeploy_reasons
    )
    sound(plan)
    unknown = plan_model(
        replace(model_weights, architecture="NewForCausalLM"), machine_preset(hardware), given
    )
    assert unknown.engine == "vllm"


def test_an_engine_that_was_named_is_kept_and_another_one_is_advised() -> None:
    plan = plan_model(WEIGHTS["32b"], machine_preset("a100"), {"context_length": 65_536}, engine="vllm")
    assert (plan.engine, plan.fits) == ("vllm", False)
    assert plan.nearest.startswith("It fits on the engine lmdeploy with kv_cache_bits 8.")
    lmdeploy_plan = plan_model(
        WEIGHTS["8b"], machine_preset("rtx4090"), {"memory_share": 0.5}, engine="lmdeploy"
    )
    assert (lmdeploy_plan.engine, lmdeploy_plan.fits) == (
        "lmdeploy",
        True,
    ) and "memory_share" in lmdeploy_plan.parameters
    assert "of the memory that the weights leave free" in lmdeploy_plan.reasons[-1]
    cpu_plan = plan_model(WEIGHTS["0.6b"], machine_preset("cpu-16g"), engine="vllm")
    assert (cpu_plan.engine, cpu_plan.fits, cpu_plan.estimate.device) == ("vllm", True, "cpu")
    lacking = plan_model(WEIGHTS["0.6b"], machine_preset("cpu-16g"), engine="lmdeploy")
    assert (lacking.engine, lacking.fits) == ("lmdeploy", False) and "NVIDIA" in lacking.reasons[-1]


def test_weights_are_counted_in_the_format_in_which_they_run() -> None:
    wide = weights(30.6, 36, 32, 8, dtype="float32")
    plan = plan_model(wide, machine_preset("rtx4090"))
    assert plan.fits and plan.estimate.weights == wide.size // 2
    assert any("The files are float32; the model runs as bfloat16." in reason for reason in plan.reasons)
    assert not plan_model(wide, machine_preset("rtx4090"), {"dtype": "float32"}).fits


def test_float16_files_stay_float16_as_some_kernels_for_4_bit_weights_know_no_other() -> None:
    for quantisation in ("", "gptq", "awq"):
        model = weights(5.0, 36, 32, 8, dtype="float16", quantisation=quantisation)
        plan = plan_model(model, machine_preset("a100"))
        assert plan.parameters["dtype"] == "float16", quantisation
        assert not any(
            "runs as" in reason or "does not support bfloat16" in reason for reason in plan.reasons
        )
    assert plan_model(model, machine_preset("a100"), {"dtype": "bfloat16"}).parameters["dtype"] == "bfloat16"


def test_a_cache_in_8_bits_is_taken_where_no_useful_context_fits_otherwise() -> None:
    tight = weights(38.6, 80, 64, 8, quantisation="awq")
    plan = plan_model(tight, machine_preset("rtx4090x2"))
    assert plan.fits and plan.parameters["kv_cache_dtype"] == "fp8", plan.reasons
    assert plan.parameters["context_length"] >= 2_048
    sound(plan)


def test_the_plan_reports_how_many_gpus_stay_free() -> None:
    two, three = (plan_model(WEIGHTS["0.6b"], machine_preset(f"{n} x A100")).reasons for n in (2, 3))
    assert any("the other one stays free" in reason for reason in two)
    assert any("the other 2 stay free" in reason for reason in three)


@pytest.mark.parametrize(
    ("words", "gpus", "memory_gb", "cores"),
    [
        ("2 x A100 80GB, 512 GB", 2, 512, 8),
        ("A100 40GB", 1, 60, 8),
        ("8xH100, 2048 GB, 128 cores", 8, 2048, 128),
        ("NVIDIA GeForce RTX 4090, 64 GB memory", 1, 64, 8),
        ("64 GB, 16 cores", 0, 64, 16),
        ("4 nodes, 8 x H100, 2048 GB", 8, 2048, 8),
        ("l40s", 1, 67, 8),
        ("2 x NVIDIA A100-SXM4-80GB, 64 cores", 2, 240, 64),
        ("NVIDIA H100 80GB HBM3", 1, 120, 8),
        ("4 x 3090", 4, 144, 8),
    ],
)
def test_a_machine_description_is_parsed_into_gpus_memory_and_cores(
    words: str, gpus: int, memory_gb: int, cores: int
) -> None:
    machine = machine_preset(words)
    assert (len(machine.gpus), machine.memory_bytes // GB, machine.cores) == (gpus, memory_gb, cores)


@pytest.mark.parametrize("preset", [name for name, machine in machine_presets().items() if machine.gpus])
def test_a_described_gpu_is_the_one_of_the_preset(preset: str) -> None:
    gpu = machine_preset(preset).gpus[0]
    if not gpu.shared:
        assert machine_preset(f"1 x {gpu.name}").gpus[0] == gpu


@pytest.mark.parametrize(
    "words",
    [
        "999999999999 GB",
        "2 x A900",
        "0 x L4",
        "99 x L4",
        "A100 70GB",
        "99999 GB",
        "L4, 0 cores",
        "0 nodes, L4",
        ", ,",
        "x" * 9_999,
    ],
)
def test_a_machine_that_does_not_exist_is_refused(words: str) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        machine_preset(words)
    assert error_info.value.param == "hardware"


@pytest.mark.parametrize(
    "lie",
    [
        {"num_hidden_layers": 10**9},
        {"hidden_size": 10**18},
        {"max_position_embeddings": 10**15},
        {"num_key_value_heads": 10**12},
        {"head_dim": 10**9},
    ],
)
def test_a_config_that_lies_about_its_size_is_refused(lie: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest, match="no model has more") as error_info:
        weights_from_config("m", {**QWEN, **lie}, 16 * GB)
    assert error_info.value.code == "model_file_invalid"


def test_a_small_model_leaves_room_on_a_large_gpu() -> None:
    plan = plan_model(WEIGHTS["0.6b"], machine_preset("h200"))
    assert plan.parameters["memory_share"] <= 0.55


def test_how_many_calls_are_computed_at_a_time_is_left_to_vllm() -> None:
    plan = plan_model(WEIGHTS["32b"], machine_preset("h200"))
    assert "max_sequences" not in plan.parameters
    calls = plan.estimate.cache // (64 * 8 * 2 * 128 * 2 * 1_000)
    assert calls > 180 and any(f"or {calls} calls of 1,000 tokens" in reason for reason in plan.reasons)


def test_an_unknown_machine_preset_is_refused_with_a_similar_name() -> None:
    assert {"h200x2", "rtx4090", "mac-m3-24g", "cpu-16g"} <= set(machine_presets())
    with pytest.raises(InvalidRequest, match="rtx4090"):
        machine_preset("rtx4900")


# --- parsing files ------------------------------------------------------------------------------------------

QWEN = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_size": 4096,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
}


def test_model_properties_are_read_from_config_json() -> None:
    read = weights_from_config("m", QWEN, 16 * GB)
    assert (read.cache_per_token, read.heads, read.context_length) == (36 * 8 * 2 * 128 * 2, 32, 40_960)
    assert read.parameters == 8 * GB and not read.encoder
    seeing = weights_from_config("m", {"model_type": "vl", "text_config": QWEN, "architectures": ["VL"]}, 1)
    assert seeing.cache_per_token == read.cache_per_token and seeing.architecture == "VL"
    latent = weights_from_config("m", {**QWEN, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, 1)
    assert latent.cache_per_token == 36 * 576 * 2
    quantised = weights_from_config("m", {**QWEN, "quantization_config": {"quant_method": "awq"}}, 1)
    assert quantised.quantisation == "awq"
    assert weights_from_config("m", {**QWEN, "model_type": "xlm-roberta"}, 1).encoder
    with pytest.raises(InvalidRequest, match=r"config\.json"):
        weights_from_config("m", {"model_type": "x"}, 1)


def test_weights_are_read_from_a_folder_and_from_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 1000)
    read = read_weights(tmp_path, "m")
    assert isinstance(read, ModelWeights) and read.size == 1000
    (tmp_path / "small.gguf").write_bytes(gguf())
    assert isinstance(read_weights(tmp_path / "small.gguf", "m"), Gguf)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(InvalidRequest, match="not a JSON object"):
        read_weights(tmp_path, "m")


async def test_a_deployment_is_planned_with_the_engine_it_runs_on(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        plan = await daemon.models.plan("default", "", {})
        assert plan.engine == "llamacpp" and plan.fits and plan.parameters["context_length"] == 8_192
        small_machine_plan = await daemon.models.plan("default", "cpu-8g", {"slots": 1})
        assert (
            small_machine_plan.hardware == "4 cores, 8 GB memory"
            and small_machine_plan.parameters["slots"] == 1
        )
        await daemon.models.add(ModelSpec("house", "http://127.0.0.1:9/v1#m"))
        assert (await daemon.models.plan("house", "", {})).engine == "remote"
        static = await daemon.models.plan("default-embedding", "", {})
        assert static.engine == "static" and static.estimate.total > 0
        with pytest.raises(InvalidRequest, match="slotz"):
            await daemon.models.plan("default", "", {"slotz": 1})
        with pytest.raises(NotFound):
            await daemon.models.plan("/nowhere/model.gguf", "", {})


def test_a_model_on_vllm_gets_the_parameters_of_its_plan(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 1000)
    spec = ModelSpec("m", str(tmp_path), parameters={"context_length": 1_024, "seed": 1})
    parameters = fill_parameters(spec, tmp_path, machine_preset("rtx4090x2"), VLLM).parameters
    assert (
        parameters["context_length"] == 1_024
        and parameters["seed"] == 1
        and parameters["tensor_parallel"] == 1
    )
    assert parameters["dtype"] == "bfloat16" and 0 < parameters["memory_share"] <= 0.9
    vllm = engine_for(replace(spec, engine="vllm"))
    assert vllm.name == "vllm" and vllm.describe(
        fill_parameters(spec, tmp_path, machine_preset("h200x2"), VLLM), tmp_path
    )
    assert fill_parameters(spec, tmp_path, machine_preset("cpu-16g"), VLLM) is spec
    with (tmp_path / "model.safetensors").open("wb") as large:
        large.truncate(30 * GB)  # sparse: no data is written
    with pytest.raises(InvalidRequest, match=r"weights alone need .* quantization fp8") as error_info:
        fill_parameters(ModelSpec("m", str(tmp_path)), tmp_path, machine_preset("rtx4090"), VLLM)
    assert error_info.value.code == "does_not_fit"


def test_the_engine_of_a_folder_is_the_one_of_its_plan(tmp_path: Path) -> None:
    config = {**QWEN, "num_hidden_layers": 64, "num_attention_heads": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with (tmp_path / "model.safetensors").open("wb") as large:
        large.truncate(61 * GB)  # sparse: no data is written
    a100 = machine_preset("a100")

    def chosen(**parameters: Any) -> str:
        return gpu_engine(
            ModelSpec("m", str(tmp_path), parameters=parameters), tmp_path, a100, (VLLM, LMDEPLOY)
        )

    assert (chosen(), chosen(context_length=65_536)) == ("vllm", "lmdeploy")
    assert (chosen(kv_cache_bits=8), chosen(unknown=1)) == ("lmdeploy", "vllm")
    spec = ModelSpec("m", str(tmp_path), parameters={"context_length": 65_536})
    assert fill_parameters(spec, tmp_path, a100, LMDEPLOY).parameters["kv_cache_bits"] == 8
    (tmp_path / "config.json").write_text("[1]")
    assert chosen() == "vllm"


async def test_a_model_on_a_hub_is_planned_from_its_header_alone(tmp_path: Path) -> None:
    tokens = {"tokenizer.ggml.tokens": [f"token-{number:06}" for number in range(80_000)]}
    large = gguf({**LLAMA, **tokens}, [("w", (1024, 1024), 0)])
    hub = Hub({"small-Q4_K_M.gguf": large, "README.md": b"x"})
    async with serving(hub), model_fixture(tmp_path, hf_endpoint=hub.url) as daemon:
        plan = await daemon.models.plan("hf://org/model", "cpu-16g", {})
        assert plan.engine == "llamacpp" and plan.fits and plan.estimate.weights == len(large)
        assert [headers["Range"] for headers in hub.downloads] == ["bytes=0-1048575", "bytes=1048576-8388607"]
        assert not list((tmp_path / "models").rglob("*.gguf"))
        hub.files = {"config.json": json.dumps(QWEN).encode(), "model.safetensors": b"\0" * 4_096}
        plan = await daemon.models.plan("hf://org/model", "rtx4090", {"kv_cache_dtype": "fp8"})
        assert plan.engine == "vllm" and plan.estimate.weights == 4_096
        assert plan.parameters["kv_cache_dtype"] == "fp8"
        plan = await daemon.models.plan("hf://org/model", "2 x A100 80GB", {"kv_cache_bits": 8})
        assert (plan.engine, plan.parameters["kv_cache_bits"]) == ("lmdeploy", 8)
        with pytest.raises(InvalidRequest, match="has no parameter 'kv_cache_dtipe'") as error_info:
            await daemon.models.plan("hf://org/model", "rtx4090", {"kv_cache_dtipe": "fp8"})
        assert error_info.value.param == "parameters.kv_cache_dtipe"
        with pytest.raises(InvalidRequest, match="context_length"):
            await daemon.models.plan("hf://org/model", "rtx4090", {"context_length": "long"})
        hub.files = {"broken.gguf": large[:100_000]}
        with pytest.raises(InvalidRequest, match="is truncated"):
            await daemon.models.plan("hf://org/model", "", {})
    home = tmp_path / "offline"
    home.mkdir()
    async with model_fixture(home, hf_endpoint=hub.url, offline=True) as daemon:
        with pytest.raises(NotFound, match="portico pull"):
            await daemon.models.plan("hf://org/model", "", {})


def test_models_for_sound_run_on_transformers_and_whisper_on_vllm_if_asked() -> None:
    whisper = {
        "architectures": ["WhisperForConditionalGeneration"],
        "max_target_positions": 448,
        "decoder_attention_heads": 12,
        "torch_dtype": "float32",
    }
    model = weights_from_config("ear", whisper, GB)
    on_cpu, on_gpu = (
        plan_model(model, machine_preset("cpu-16g")),
        plan_model(model, machine_preset("rtx4090")),
    )
    assert on_cpu.engine == on_gpu.engine == "transformers" and on_cpu.fits and on_gpu.fits
    assert "context_length" not in on_cpu.parameters and on_cpu.estimate.cache == 0
    vllm_plan = plan_model(model, machine_preset("rtx4090"), engine="vllm")
    assert vllm_plan.engine == "vllm" and vllm_plan.fits and vllm_plan.parameters["context_length"] == 448
    music = weights_from_config("band", {"architectures": ["MusicgenForConditionalGeneration"]}, 2 * GB)
    assert plan_model(music, machine_preset("rtx4090")).parameters["dtype"] == "float32"
    assert not plan_model(weights_from_config("large", whisper, 40 * GB), machine_preset("cpu-16g")).fits
