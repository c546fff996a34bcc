"""An adapter merged into a folder of safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.server.models.adapters.peft_files import pairs, safetensors, write

from portico_server.core.errors import Conflict, InvalidRequest, PorticoError
from portico_server.models.adapter_export import merge_adapter
from portico_server.models.adapters import peft as files

UP, Q = "model.layers.0.mlp.up_proj", "model.layers.0.self_attn.q_proj"


def base(folder: Path, dtype: str = "F32") -> Path:
    """Write a model in two files, with a configuration and a pickle that must not be copied."""
    model_folder = folder / "base"
    model_folder.mkdir()
    random = np.random.default_rng(0)
    for number, (name, shape) in enumerate(((UP, (32, 64)), (Q, (64, 64))), 1):
        weight = random.standard_normal(shape).astype(np.float32)
        tensors = {
            f"{name}.weight": (dtype, shape, files.pack_floats(weight, dtype)),
            f"norm{number}.weight": ("F32", (4,), np.arange(4, dtype="<f4").tobytes()),
        }
        (model_folder / f"model-0000{number}-of-00002.safetensors").write_bytes(safetensors(tensors))
    (model_folder / "config.json").write_text("{}")
    (model_folder / "pytorch_model.bin").write_bytes(b"pickle")
    return model_folder


def weights(folder: Path) -> dict[str, np.ndarray]:
    weight_files = [files.read_safetensors(path) for path in sorted(folder.glob("*.safetensors"))]
    return {name: file.array(name) for file in weight_files for name in file.tensors}


@pytest.mark.parametrize(("dtype", "near"), [("F32", 1e-6), ("BF16", 2e-2), ("F16", 2e-3)])
def test_merging_adds_the_scaled_product_of_the_adapter_matrices(
    tmp_path: Path, dtype: str, near: float
) -> None:
    model = base(tmp_path, dtype)
    matrices = pairs(1, {"mlp.up_proj": (64, 32), "self_attn.q_proj": (64, 64)}, 4, size=0.5)
    adapter = write(tmp_path / "a", matrices, lora_alpha=12)
    weights_before = weights(model)
    merge_adapter(model, adapter, tmp_path / "made" / "out", scale=0.5)
    weights_after = weights(tmp_path / "made" / "out")
    assert weights_after.keys() == weights_before.keys()
    for name, weight in weights_before.items():
        pair = matrices.get(name.removesuffix(".weight"))
        expected_weight = weight if pair is None else weight + 1.5 * (pair[1] @ pair[0])
        assert np.allclose(weights_after[name], expected_weight, atol=near, rtol=near), name
    names = sorted(path.name for path in (tmp_path / "made" / "out").iterdir())
    assert names == ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    sizes = [
        path.stat().st_size for folder in (model, tmp_path / "made" / "out") for path in folder.glob("*.s*")
    ]
    assert len(set(sizes)) == 2


@pytest.mark.parametrize("layer", ["mlp.up_proj", "mlp.gate_proj"])
def test_an_adapter_that_does_not_fit_is_refused_without_leaving_files(tmp_path: Path, layer: str) -> None:
    adapter = write(tmp_path / "a", pairs(1, {layer: (64, 64)}, 4))
    with pytest.raises(InvalidRequest):
        merge_adapter(base(tmp_path), adapter, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "base"]


def test_an_existing_output_folder_is_not_overwritten(tmp_path: Path) -> None:
    adapter = write(tmp_path / "a", pairs(1, {"mlp.up_proj": (64, 32)}, 4))
    (tmp_path / "out").mkdir()
    with pytest.raises(Conflict):
        merge_adapter(base(tmp_path), adapter, tmp_path / "out")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("portico_server.models.adapter_export.os.fsync", full)
    adapter = write(tmp_path / "a", pairs(1, {"mlp.up_proj": (64, 32)}, 4))
    with pytest.raises(PorticoError) as error_info:
        merge_adapter(base(tmp_path), adapter, tmp_path / "out")
    assert error_info.value.code == "disk_full"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "base"]
