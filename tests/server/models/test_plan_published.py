"""Planned memory of models, compared with published measurements of others."""

from __future__ import annotations

from typing import Any

import pytest

from portico_server.models.gguf import Gguf
from portico_server.models.plan.weights import weights_from_config

MIB, GIB = 1024**2, 1024**3
NEAR = 0.15
"""Relative error allowed for an estimate."""


def dense(
    layers: int, heads: int, kv_heads: int, hidden: int, head: int = 128, **more: Any
) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden_size": hidden,
        "head_dim": head,
        "torch_dtype": "bfloat16",
        **more,
    }


LINEAR_LAYERS = {
    "full_attention_interval": 4,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 48,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}

KEY_VALUE_CACHES = [
    # model, its configuration, tokens, GPUs that share it, bytes on one GPU, source
    (
        "Qwen3-235B-A22B",
        dense(94, 64, 4, 4096),
        178_880,
        4,
        8.11 * GIB,
        "github.com/vllm-project/vllm/issues/21348",
    ),
    (
        "Qwen3-1.7B",
        dense(28, 16, 8, 2048),
        175_856,
        1,
        18.78 * GIB,
        "github.com/vllm-project/vllm/issues/33263",
    ),
    (
        "Llama-3.1-8B",
        dense(32, 32, 8, 4096),
        1_952 * 16,
        1,
        3.81 * GIB,
        "github.com/vllm-project/vllm/issues/10517",
    ),
    (
        "Qwen3-Coder-30B-A3B",
        dense(48, 32, 4, 2048),
        262_144,
        1,
        24.0 * GIB,
        "github.com/vllm-project/vllm/issues/34076",
    ),
    (
        "Llama-3.1-70B",
        dense(80, 64, 8, 8192),
        128_000,
        1,
        39.06 * GIB,
        "huggingface.co/blog/llama31#inference-memory-requirements",
    ),
    (
        "Qwen3.5-27B",
        dense(64, 24, 4, 5120, 256, model_type="qwen3_5_text", **LINEAR_LAYERS),
        131_072,
        1,
        2_304 * MIB * 64 / 18,  # measured with 4 bits and a scale: 18 bytes instead of 64 bytes at 16 bits
        "github.com/Luce-Org/lucebox/pull/21",
    ),
    (
        "DeepSeek-V3",
        dense(61, 128, 128, 7168, kv_lora_rank=512, qk_rope_head_dim=64),
        32_768,
        1,
        2_196 * MIB,
        "github.com/ggml-org/llama.cpp/pull/11446",
    ),
]


@pytest.mark.parametrize(("name", "config", "tokens", "gpus", "measured", "source"), KEY_VALUE_CACHES)
def test_a_key_value_cache_is_as_large_as_was_measured(
    name: str, config: dict[str, Any], tokens: int, gpus: int, measured: float, source: str
) -> None:
    read = weights_from_config(name, config, GIB)
    assert read.cache_bytes(tokens) / gpus == pytest.approx(measured, rel=NEAR), source


# GPU memory in GiB for an input of one token and 2,048 generated tokens, in transformers with bfloat16:
# github.com/QwenLM/Qwen2.5, docs/source/benchmark/speed_benchmark.rst. The parameters are from the model
# cards.
WHOLE_MODELS = [
    ("Qwen2.5-0.5B", 0.494, dense(24, 14, 2, 896, 64), 0.97),
    ("Qwen2.5-1.5B", 1.544, dense(28, 12, 2, 1536), 2.95),
    ("Qwen2.5-7B", 7.616, dense(28, 28, 4, 3584), 14.38),
    ("Qwen2.5-32B", 32.76, dense(64, 40, 8, 5120), 61.58),
    ("Qwen2.5-72B", 72.71, dense(80, 64, 8, 8192), 136.20),
]


@pytest.mark.parametrize(("name", "billions", "config", "measured"), WHOLE_MODELS)
def test_weights_and_cache_together_are_as_large_as_was_measured(
    name: str, billions: float, config: dict[str, Any], measured: float
) -> None:
    read = weights_from_config(name, config, int(billions * 2e9))
    total = read.running_bytes("bfloat16") + read.cache_bytes(2_049)
    assert total / GIB == pytest.approx(measured, rel=NEAR)


def test_weights_that_are_quantised_are_as_large_as_was_measured() -> None:
    """gpt-oss-120b: the file sizes in its index match what vLLM loaded."""
    config = dense(36, 64, 8, 2880, 64, quantization_config={"quant_method": "mxfp4"})
    read = weights_from_config("gpt-oss-120b", config, 65_248_815_744)
    source = "github.com/vllm-project/vllm/issues/23278"
    assert read.running_bytes("bfloat16") == pytest.approx(65.97 * GIB, rel=NEAR), source


def gguf(architecture: str, layers: int, kv_heads: int, head: int, **values: Any) -> Gguf:
    sizes = {"attention.key_length": head, "attention.value_length": head, **values}
    return Gguf(
        architecture=architecture,
        name=architecture,
        kind="model",
        context_length=131_072,
        embedding_length=2_880,
        block_count=layers,
        head_count=64,
        head_count_kv=kv_heads,
        vocabulary=1,
        chat_template=True,
        pooling="",
        quantisation="",
        parameters=1,
        tensors=1,
        split_count=1,
        end_offset=1,
        file_size=1,
        values={f"{architecture}.{key.replace('__', '.')}": value for key, value in sizes.items()},
    )


# From llama.cpp's logs (``llama_kv_cache: size``): cells, layers and MiB of the layers that keep every token,
# and of the layers with a window. gpt-oss-20b: 12 and 12 layers, 384 MiB for 8 x 2,048 cells and 96 MiB for 8
# x 512; Gemma 2 2B: 13 and 13 layers, 416 MiB for 8,192 cells each.
SPLIT_CACHES = [
    (
        "gpt-oss-20b",
        gguf("gpt-oss", 24, 8, 64, **{"attention.sliding_window": 128}),
        (8 * 2_048, 384),
        (8 * 512, 96),
    ),
    (
        "Gemma 2 2B",
        gguf("gemma2", 26, 4, 256, **{"attention.sliding_window": 4_096}),
        (8_192, 416),
        (8_192, 416),
    ),
]


@pytest.mark.parametrize(("name", "file", "full", "window"), SPLIT_CACHES)
def test_layers_with_a_window_are_counted_apart_in_a_gguf(
    name: str, file: Gguf, full: tuple[int, int], window: tuple[int, int]
) -> None:
    assert file.kv_bytes_per_token * full[0] / MIB == pytest.approx(full[1], rel=NEAR), name
    assert file.window_bytes_per_token * window[0] / MIB == pytest.approx(window[1], rel=NEAR), name


# --- layers of other kinds, by their configurations ----------------------------------------------------------


def test_the_cache_of_each_layer_follows_its_attention_kind() -> None:
    gpt_oss = weights_from_config(
        "m",
        dense(
            36, 64, 8, 2880, 64, sliding_window=128, layer_types=["sliding_attention", "full_attention"] * 18
        ),
        1,
    )
    assert (gpt_oss.cache_per_token, gpt_oss.window) == (18 * 8 * 64 * 2 * 2, 128)
    assert gpt_oss.cache_bytes(100_000) < 0.51 * 100_000 * 36 * 8 * 64 * 2 * 2
    gemma = dense(62, 32, 16, 5376, model_type="gemma3_text", sliding_window=1024, sliding_window_pattern=6)
    read = weights_from_config("m", {"text_config": gemma}, 1)
    assert read.cache_per_token == 10 * 16 * 128 * 2 * 2 and read.window_per_token == 52 * 16 * 128 * 2 * 2
    linear = {
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
    }
    following = dense(48, 16, 2, 2048, 256, model_type="qwen3_next", full_attention_interval=4, **linear)
    read = weights_from_config("m", following, 1)
    assert read.cache_per_token == 12 * 2 * 256 * 2 * 2 and read.window == 0
    assert read.state_bytes == 36 * (32 * 128 * 128 * 4 + (2 * 16 * 128 + 32 * 128) * 4 * 2)
    plain = dense(28, 12, 2, 1536, model_type="qwen2", sliding_window=4096, use_sliding_window=False)
    assert weights_from_config("m", plain, 1).window == 0
    old = dense(32, 32, 8, 4096, model_type="mistral", sliding_window=4096)
    assert weights_from_config("m", old, 1).cache_bytes(32_768) == 4096 * 32 * 8 * 128 * 2 * 2
    sharing_config = dense(
        35,
        8,
        1,
        1536,
        256,
        sliding_window=512,
        num_kv_shared_layers=20,
        layer_types=(["sliding_attention"] * 4 + ["full_attention"]) * 7,
    )
    assert weights_from_config("m", sharing_config, 1).cache_per_token == 3 * 256 * 2 * 2


def test_linear_attention_and_latent_caches_of_a_gguf_are_counted() -> None:
    hybrid = {
        "full_attention_interval": 4,
        "ssm.inner_size": 4_096,
        "ssm.state_size": 128,
        "ssm.group_count": 16,
        "ssm.conv_kernel": 4,
    }
    file = gguf("qwen3next", 48, 2, 256, **hybrid)
    assert file.kv_bytes_per_token == 12 * 2 * 256 * 2 * 2
    assert file.state_bytes == 36 * 4 * (4_096 * 128 + 3 * (4_096 + 2 * 16 * 128))
    latent = gguf("deepseek2", 61, 1, 576, **{"attention.kv_lora_rank": 512, "rope.dimension_count": 64})
    assert latent.kv_bytes_per_token * 32_768 == 2_196 * MIB
