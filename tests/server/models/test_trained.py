"""Fully trained models: stored in their own place, served under their name, and removed with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.server.models.adapters import peft_files

from portico.testing.model_fixture import model_fixture
from portico_server.core.principal import LOCAL
from portico_server.models.environments.recipe import LOCKS, RECIPES
from portico_server.models.spec import ModelSpec
from portico_server.models.training_environment import OPTIONAL_PACKAGES

NAME = "ft:house:portico::1"

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 16,
    "max_position_embeddings": 64,
}


def folder(place: Path, value: float) -> Path:
    """Return a folder that looks like a model until it is loaded."""
    place.mkdir()
    (place / "config.json").write_text(json.dumps(CONFIG))
    (place / "tokenizer.json").write_text("{}")
    numbers = np.full((16, 8), value, np.float32).tobytes()
    file = peft_files.safetensors({"model.embed_tokens.weight": ("F32", (16, 8), numbers)})
    (place / "model.safetensors").write_bytes(file)
    return place


def weights(place: Path) -> bool:
    """Return whether there is a model."""
    return (place / "model.safetensors").is_file()


async def test_a_trained_folder_runs_on_its_bases_engine_and_is_deleted_on_removal(tmp_path: Path) -> None:
    (home := tmp_path / "home").mkdir()
    base = ModelSpec(
        "house",
        str(folder(tmp_path / "base", 0.0)),
        engine="transformers",
        aliases=("assistant",),
        pin=True,
        description="The one that was there",
        defaults={"temperature": 0.2},
    )
    trained = folder(tmp_path / "trained", 1.0)
    async with model_fixture(home, install_engines=False) as daemon:
        await daemon.models.add(base)
        await daemon.models.bases.publish(NAME, "house", trained, None)
        await daemon.models.bases.publish(NAME, "house", trained, None)  # retries an interrupted attempt
        spec = daemon.models.spec(NAME)
        assert spec is not None
        assert (spec.engine, spec.defaults, spec.aliases, spec.pin) == (
            "transformers",
            base.defaults,
            (),
            False,
        )
        place = Path(spec.source)
        assert place.is_relative_to(daemon.settings.home)
        assert (place / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
        again = await daemon.models.bases.base(NAME, LOCAL)
        assert (again.format, again.path) == ("safetensors", place), "it can be trained further"
    (trained / "model.safetensors").unlink()
    async with model_fixture(home, install_engines=False) as daemon:
        assert daemon.models.get(NAME).source == str(place), "it is there after a restart"
        assert weights(place), "and does not need what it was made of"
        await daemon.models.remove(NAME)
        assert not weights(place)
        assert weights(tmp_path / "base")


@pytest.mark.parametrize(("lock", "has"), [("finetune.lock", {"bitsandbytes"}), ("finetune-cpu.lock", set())])
def test_the_training_recipe_lists_optional_packages_of_its_lock_file(lock: str, has: set[str]) -> None:
    recipe = replace(RECIPES["finetune"], lock=LOCKS / lock)
    assert recipe.pinned & OPTIONAL_PACKAGES == has
    assert {"torch", "trl", "peft", "gguf"} <= recipe.pinned
