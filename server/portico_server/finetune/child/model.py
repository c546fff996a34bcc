"""The base model and its tokenizer, as the recipe wants them."""

from __future__ import annotations

import os
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from .order import Order

LAYERS = frozenset(
    (
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        *("qkv_proj", "gate_up_proj"),
    )
)
"""The linear layers of a block that adapters are made for; what serves the result knows them all."""

_OFFLINE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def tokenizer_of(order: Order) -> Any:
    """The tokenizer, with something to fill short examples up with."""
    tokenizer = AutoTokenizer.from_pretrained(order.model, **_OFFLINE)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def served_as(order: Order) -> torch.dtype:
    """The numbers that the base is kept in."""
    config = AutoConfig.from_pretrained(order.model, **_OFFLINE)
    return config.dtype if isinstance(config.dtype, torch.dtype) else torch.bfloat16


def model_of(order: Order) -> Any:
    """The weights, on the device of this process."""
    recipe = order.recipe
    dtype = getattr(torch, recipe["precision"])
    if recipe["kind"] == "full":
        # Steps are smaller than the last bit of 16: the weights have 32, what is computed with them 16.
        dtype = torch.float32
    wished: dict[str, Any] = {
        "dtype": dtype,
        "attn_implementation": recipe["attention"],
        "use_safetensors": True,
    }
    cut = recipe["sharding"] in ("fsdp", "zero3")
    if recipe["kind"] == "qlora":
        wished["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            # What is cut up over several GPUs must be kept as numbers of one kind.
            bnb_4bit_quant_storage=dtype if cut else torch.uint8,
        )
        if not cut:
            wished["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0"))}
    model = AutoModelForCausalLM.from_pretrained(order.model, **wished, **_OFFLINE)
    model.config.use_cache = False
    return model


def lora_of(order: Order, model: Any) -> LoraConfig | None:
    """Adapters on every linear layer of the blocks, or nothing where the whole model is trained."""
    recipe = order.recipe
    if recipe["kind"] == "full":
        return None
    found = {name.rpartition(".")[2] for name, _ in model.named_modules()} & LAYERS
    if not found:
        raise ValueError(f"'{order.name}' has none of the layers that adapters are made for")
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe["rank"],
        lora_alpha=recipe["alpha"],
        lora_dropout=recipe["dropout"],
        target_modules=sorted(found),
        bias="none",
    )
