"""PEFT folders and safetensors files on input: which are accepted, and how the others are refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.models.adapters.peft_files import pairs, safetensors, write
from tests.server.models.model_files import LLAMA, gguf

from portico_server.core.errors import InvalidRequest, NotFound, PorticoError
from portico_server.models.adapters import gguf_adapter, peft, stored
from portico_server.models.adapters import peft as files
from portico_server.models.adapters.gguf_adapter import GgufBase
from portico_server.models.gguf import read_gguf, read_shapes

Q = {"self_attn.q_proj": (64, 64)}
TENSORS = {"a": ("F32", (2, 3), bytes(24)), "b": ("BF16", (4,), bytes(8))}


def adapter(folder: Path, **config: Any) -> Path:
    return write(folder / "a", pairs(1, Q, 4), **config)


def with_tensors(folder: Path, tensors: Any) -> Path:
    adapter_folder = adapter(folder)
    (adapter_folder / peft.WEIGHTS).write_bytes(safetensors(tensors))
    return adapter_folder


# --- safetensors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_arrays_round_trip_through_safetensors_in_each_dtype(tmp_path: Path, dtype: str) -> None:
    numbers = np.array([[0.0, -1.5, 3.25], [1e-3, 65504.0 if dtype == "F16" else 1e30, -0.1]], np.float32)
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors({"x": (dtype, (2, 3), files.pack_floats(numbers, dtype))}))
    read = files.read_safetensors(path).array("x")
    assert read.shape == (2, 3) and read.dtype == np.float32
    assert np.allclose(read, numbers, rtol={"F32": 0, "F16": 1e-3, "BF16": 8e-3}[dtype])


def test_bfloat16_is_rounded_to_the_nearest() -> None:
    numbers = np.array([1.0, 1.00390625, 1.01171875, -1.005], np.float32)
    assert files.as_floats(files.pack_floats(numbers, "BF16"), "BF16").tolist() == [
        1.0,
        1.0,
        1.015625,
        -1.0078125,
    ]


def _header(document: Any, data: bytes = b"") -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 0),
        _header(b"{nonsense"),
        _header([1]),
        _header({"__metadata__": 5}),
        _header({"x": 5}),
        _header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}),
        _header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(4)),
        _header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(9)),
        _header({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)),
        _header({"x": {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]}}, bytes(8)),
        _header({"x": {"dtype": "F9", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        _header({"x": {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}}, bytes(8)),
        _header({"x": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}, bytes(8)),
    ],
)
def test_a_damaged_safetensors_file_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(InvalidRequest, match=r"x\.safetensors"):
        files.read_safetensors(path)


def test_a_safetensors_file_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    data = safetensors(TENSORS)
    path = tmp_path / "x.safetensors"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(InvalidRequest):
            files.read_safetensors(path)


# --- folders ------------------------------------------------------------------------------------------------


def test_rank_alpha_and_targets_are_read_from_a_peft_folder(tmp_path: Path) -> None:
    adapter_facts = peft.read_peft(adapter(tmp_path, lora_alpha=16, use_rslora=True))
    assert (adapter_facts.rank, adapter_facts.alpha, adapter_facts.targets, adapter_facts.highest_rank) == (
        4,
        16.0,
        ("q_proj",),
        4,
    )
    [pair] = adapter_facts.pairs
    assert (pair.module, pair.inputs, pair.outputs, pair.scaling) == (
        "model.layers.0.self_attn.q_proj",
        64,
        64,
        8.0,
    )


def test_rank_and_alpha_patterns_match_layer_names_or_their_suffixes(tmp_path: Path) -> None:
    layers = {"self_attn.q_proj": (64, 64), "mlp.up_proj": (64, 128)}
    matrices = pairs(2, layers, 4)
    matrices["model.layers.1.mlp.up_proj"] = pairs(2, layers, 2)["model.layers.1.mlp.up_proj"]
    folder = write(
        tmp_path / "a",
        matrices,
        r=4,
        lora_alpha=8,
        rank_pattern={"model.layers.1.mlp.up_proj": 2},
        alpha_pattern={"q_proj": 4, "^model.layers.1.mlp.up_proj": 6},
    )
    ranks_and_scalings = {pair.module: (pair.rank, pair.scaling) for pair in peft.read_peft(folder).pairs}
    assert ranks_and_scalings == {
        "model.layers.0.self_attn.q_proj": (4, 1.0),
        "model.layers.1.self_attn.q_proj": (4, 1.0),
        "model.layers.0.mlp.up_proj": (4, 2.0),
        "model.layers.1.mlp.up_proj": (2, 3.0),
    }


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"peft_type": "LOHA"}, "'LOHA'; only LORA"),
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "biases"),
        ({"lora_bias": True}, "biases"),
        ({"target_parameters": ["x"]}, "target_parameters"),
        ({"trainable_token_indices": [1]}, "trained tokens"),
        ({"fan_in_fan_out": True}, "transposed"),
        ({"r": 0}, "'r'"),
        ({"r": True}, "'r'"),
        ({"r": 8}, "configuration specifies rank 8"),
        ({"lora_alpha": "x"}, "'lora_alpha'"),
        ({"lora_alpha": -1}, "'lora_alpha'"),
        ({"rank_pattern": {"(a+)+$": 4}}, "only layer names are supported"),
        ({"alpha_pattern": {"q_proj": 0}}, "above 0"),
        ({"alpha_pattern": [1]}, "not a JSON object"),
    ],
)
def test_adapters_other_than_plain_lora_are_refused(
    tmp_path: Path, config: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        peft.read_peft(adapter(tmp_path, **config))
    assert says in error_info.value.message and error_info.value.param == "path"


HALF = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({}, "no tensors"),
        ({HALF: ("F32", (4, 64), bytes(1024))}, "only one of the two"),
        ({"x": ("F32", (1,), bytes(4))}, "not half of a LoRA pair"),
        ({HALF.replace("lora_A.weight", "lora_magnitude_vector"): ("F32", (1,), bytes(4))}, "DoRA"),
        ({HALF.replace("lora_A.weight", "lora_embedding_A"): ("F32", (1,), bytes(4))}, "embedding"),
        (
            {
                HALF: ("I8", (4, 64), bytes(256)),
                HALF.replace("_A", "_B"): ("I8", (64, 4), bytes(256)),
            },
            "as I8",
        ),
        (
            {
                HALF: ("F32", (4, 8, 8), bytes(1024)),
                HALF.replace("_A", "_B"): ("F32", (64, 4), bytes(1024)),
            },
            "not a linear layer",
        ),
    ],
)
def test_tensors_without_a_valid_pair_are_refused(tmp_path: Path, tensors: Any, says: str) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        peft.read_peft(with_tensors(tmp_path, tensors))
    assert says in error_info.value.message


def test_a_folder_without_a_valid_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        peft.read_peft(tmp_path / "nowhere")
    with pytest.raises(InvalidRequest, match=r"no adapter_model\.safetensors"):
        peft.read_peft(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80")
    with pytest.raises(InvalidRequest, match="pickle"):
        peft.read_peft(tmp_path)
    folder = adapter(tmp_path)
    for text in ("", "[]", "{", " " * (peft.MAX_CONFIG_BYTES + 1)):
        (folder / peft.CONFIG).write_text(text)
        with pytest.raises(InvalidRequest, match=r"adapter_config\.json"):
            peft.read_peft(folder)


# --- GGUF ---------------------------------------------------------------------------------------------------


def base(folder: Path, architecture: str, tensors: dict[str, tuple[int, int]]) -> GgufBase:
    """Return a model of an architecture with these tensors, all zeros."""
    header = {
        key.replace("llama.", f"{architecture}."): value
        for key, value in {**LLAMA, "general.architecture": architecture}.items()
    }
    path = folder / f"{architecture}.gguf"
    path.write_bytes(gguf(header, [(name, shape, 0) for name, shape in tensors.items()]))
    return GgufBase.read(path)


@pytest.mark.parametrize(
    ("architecture", "module", "name"),
    [
        *((a, "model.layers.0.mlp.down_proj", "blk.0.ffn_down.weight") for a in ("llama", "qwen2", "qwen3")),
        ("gemma2", "model.layers.0.self_attn.o_proj", "blk.0.attn_output.weight"),
        ("gemma3", "model.language_model.layers.0.mlp.gate_proj", "blk.0.ffn_gate.weight"),
        ("gemma3", "language_model.model.layers.0.self_attn.k_proj", "blk.0.attn_k.weight"),
        ("phi3", "model.layers.0.self_attn.qkv_proj", "blk.0.attn_qkv.weight"),
        ("phi3", "model.layers.0.mlp.gate_up_proj", "blk.0.ffn_up.weight"),
        ("qwen3", "lm_head", "output.weight"),
    ],
)
def test_layers_get_the_names_of_llamacpp(tmp_path: Path, architecture: str, module: str, name: str) -> None:
    folder = write(tmp_path / "a", {module: pairs(1, {"x": (64, 32)}, 4)["model.layers.0.x"]})
    adapter_path = gguf_adapter.prepare_gguf_adapter(folder, base(tmp_path, architecture, {name: (64, 32)}))
    assert read_shapes(adapter_path) == {f"{name}.lora_a": (64, 4), f"{name}.lora_b": (4, 32)}
    header = read_gguf(adapter_path)
    assert (header.kind, header.architecture, header.values["adapter.lora.alpha"]) == (
        "adapter",
        architecture,
        8.0,
    )
    assert not header.truncated and header.file_size == header.end_offset + (-header.end_offset) % 32


def test_an_unsupported_architecture_is_refused_with_the_supported_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"'mamba' model cannot be converted.*llama, qwen2"):
        gguf_adapter.prepare_gguf_adapter(adapter(tmp_path), base(tmp_path, "mamba", {"x": (64, 64)}))


def test_large_numbers_are_kept_in_32_bits(tmp_path: Path) -> None:
    matrices = pairs(1, {"mlp.up_proj": (64, 32)}, 4)
    [(module, (a, b))] = matrices.items()
    folder = write(tmp_path / "a", {module: (a, b * 1e7)})
    adapter_path = gguf_adapter.prepare_gguf_adapter(
        folder, base(tmp_path, "llama", {"blk.0.ffn_up.weight": (64, 32)})
    )
    assert read_gguf(adapter_path).file_size > 64 * 4 * 2 + 32 * 4 * 4


def test_a_conversion_is_made_once_for_each_kind_of_base(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", pairs(1, {"mlp.up_proj": (64, 32)}, 4))
    places = [
        gguf_adapter.prepare_gguf_adapter(folder, base(tmp_path, name, {"blk.0.ffn_up.weight": (64, 32)}))
        for name in ("llama", "qwen2", "llama")
    ]
    assert places[0] == places[2] != places[1]
    assert sorted(folder.glob("*.gguf")) == sorted(set(places))


# --- storage --------------------------------------------------------------------------------------------


def test_the_same_content_is_kept_once(tmp_path: Path) -> None:
    home = tmp_path / "adapters"
    first_copy = stored.store_adapter(adapter(tmp_path), home, is_scripted=False)
    (tmp_path / "a").rename(tmp_path / "b")
    two = stored.store_adapter(tmp_path / "b", home, is_scripted=False)
    assert (
        first_copy == two
        and stored.is_complete(home, first_copy.facts)
        and stored.adapter_folder(home, first_copy.facts) == first_copy.path
    )
    assert [path.name for path in home.iterdir()] == [first_copy.facts["sha256"]]
    assert sorted(path.name for path in first_copy.path.iterdir()) == [peft.CONFIG, peft.WEIGHTS]
    stored.delete_adapter(home, first_copy.facts)
    assert not stored.is_complete(home, first_copy.facts) and list(home.iterdir()) == []


def test_nothing_is_left_of_a_copy_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_source: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored, "_copy", full)
    home = tmp_path / "adapters"
    with pytest.raises(PorticoError) as error_info:
        stored.store_adapter(adapter(tmp_path), home, is_scripted=False)
    assert error_info.value.code == "disk_full" and list(home.iterdir()) == []


def test_files_of_a_killed_daemon_are_cleaned_up(tmp_path: Path) -> None:
    (tmp_path / ".x.new").mkdir()
    (tmp_path / ".x.new" / "part").write_bytes(b"x")
    stored.remove_partial(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_models_and_other_files_are_refused_as_adapters(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf())
    with pytest.raises(InvalidRequest, match="is a model, not an adapter"):
        stored.store_adapter(path, tmp_path / "adapters", is_scripted=False)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InvalidRequest, match="is not an adapter"):
        stored.store_adapter(tmp_path / "x.txt", tmp_path / "adapters", is_scripted=False)
