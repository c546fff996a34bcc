"""The base model and its tokenizer, in the form that the recipe requires."""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import PartialState
from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
)
from transformers.distributed import DistributedConfig

from .daemon import DaemonLink, TrainingOrder
from .retrieval import RETRIEVAL_TASKS, RetrievalFactory

LORA_LAYERS = frozenset(
    (
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        *("qkv_proj", "gate_up_proj"),
    )
)
"""The linear layers of a transformer block that get adapters. The engines that serve the trained model support all of
these.
"""

_OFFLINE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def tokenizer_of(order: TrainingOrder) -> Any:
    """Return the tokenizer, with a token for padding short examples."""
    tokenizer = AutoTokenizer.from_pretrained(order.model, **_OFFLINE)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def dtype_of(order: TrainingOrder) -> torch.dtype:
    """Return the data type of the base model's weights."""
    config = AutoConfig.from_pretrained(order.model, **_OFFLINE)
    return config.dtype if isinstance(config.dtype, torch.dtype) else torch.bfloat16


def factory_of(order: TrainingOrder, voice: DaemonLink) -> Any:
    """Return the factory that creates the trainer for the method."""
    tokenizer = tokenizer_of(order)
    if order.method in RETRIEVAL_TASKS:
        return RetrievalFactory(order, voice, tokenizer)
    from .methods import TrainerFactory  # importing trl takes seconds

    return TrainerFactory(order, voice, tokenizer)


def model_of(order: TrainingOrder) -> Any:
    """Return the base model, loaded to the device of this process."""
    recipe = order.recipe
    dtype = getattr(torch, recipe["precision"])
    if recipe["kind"] == "full":
        # Weights have 32 bits, because a step changes them by less than the last bit of a 16-bit float;
        # computation uses 16 bits.
        dtype = torch.float32
    options: dict[str, Any] = {
        "dtype": dtype,
        "attn_implementation": recipe["attention"],
        "use_safetensors": True,
    }
    cut = recipe["sharding"] in ("fsdp", "zero3")
    if recipe["kind"] == "qlora":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            # Weights sharded over several GPUs must all have the same data type.
            bnb_4bit_quant_storage=dtype if cut else torch.uint8,
        )
        if not cut:
            options["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0"))}
    if recipe["tensor_parallel"] > 1:
        parts = recipe["tensor_parallel"]
        PartialState(cpu=recipe["device"] == "cpu")  # sets up communication between the processes
        options["distributed_config"] = DistributedConfig(
            tp_size=parts, fsdp_size=recipe["processes"] // parts
        )
    kind = RETRIEVAL_TASKS[order.method][0] if order.method in RETRIEVAL_TASKS else AutoModelForCausalLM
    model = kind.from_pretrained(order.model, **options, **_OFFLINE)
    model.config.use_cache = False
    return model


def lora_of(order: TrainingOrder, model: Any) -> LoraConfig | None:
    """Return adapters for every linear layer of the blocks, or ``None`` if the whole model is trained."""
    recipe = order.recipe
    if recipe["kind"] == "full":
        return None
    if order.method in RETRIEVAL_TASKS:
        return LoraConfig(
            task_type=RETRIEVAL_TASKS[order.method][1],
            r=recipe["rank"],
            lora_alpha=recipe["alpha"],
            lora_dropout=recipe["dropout"],
            target_modules="all-linear",
            bias="none",
        )
    layer_names = {name.rpartition(".")[2] for name, _ in model.named_modules()} & LORA_LAYERS
    if not layer_names:
        raise ValueError(f"'{order.name}' has no layers that support adapters")
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe["rank"],
        lora_alpha=recipe["alpha"],
        lora_dropout=recipe["dropout"],
        target_modules=sorted(layer_names),
        bias="none",
    )
