"""One training, from the order to the adapter: the model, a probe of its memory, the trainer."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import PartialState
from datasets import disable_progress_bars
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PrinterCallback,
    set_seed,
)
from transformers.distributed import DistributedConfig
from transformers.utils import logging

from . import watch
from .daemon import DaemonLink, TrainingOrder
from .retrieval import RETRIEVAL_TASKS, RetrievalFactory

# One step without effect, with the longest example: whether the micro batch of the recipe fits the memory.


USABLE_MEMORY_SHARE = 0.9
"""Part of the free memory that a step may take."""

POLL_INTERVAL_S = 0.01
"""Seconds between two looks at the memory of this process: its peak shows nothing else."""


def fits_memory(step: Callable[[int], None], micro_batch: int) -> int:
    """The largest micro batch up to ``micro_batch``, halved as often as needed; at least 1.

    ``step`` computes a gradient for so many of the longest examples. On a GPU it is tried as it is; on a CPU, where
    too much would end the process, one example is measured and the rest follows.
    """
    if not torch.cuda.is_available():
        free = psutil.virtual_memory().available * USABLE_MEMORY_SHARE
        with _Peak() as peak:
            step(1)
        possible = free / max(peak.grown, 1)
        while micro_batch > 1 and micro_batch > possible:
            micro_batch //= 2
        return micro_batch
    while True:
        try:
            step(micro_batch)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if micro_batch == 1:
                raise
            micro_batch //= 2
        else:
            torch.cuda.empty_cache()
            return micro_batch


class _Peak:
    """How far this process grows while it is entered, in bytes."""

    def __init__(self) -> None:
        self.grown = 0
        self._process = psutil.Process()
        self._done = threading.Event()
        self._before = 0

    def __enter__(self) -> _Peak:
        self._before = self._now()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(POLL_INTERVAL_S):
            self.grown = max(self.grown, self._now() - self._before)

    def _now(self) -> int:
        return int(self._process.memory_info().rss)


# The base model and its tokenizer, as the recipe wants them.


LORA_LAYERS = frozenset(
    (
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        *("qkv_proj", "gate_up_proj"),
    )
)
"""The linear layers of a block that adapters are made for; what serves the result knows them all."""

_OFFLINE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def tokenizer_of(order: TrainingOrder) -> Any:
    """The tokenizer, with something to fill short examples up with."""
    tokenizer = AutoTokenizer.from_pretrained(order.model, **_OFFLINE)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def dtype_of(order: TrainingOrder) -> torch.dtype:
    """The numbers that the base is kept in."""
    config = AutoConfig.from_pretrained(order.model, **_OFFLINE)
    return config.dtype if isinstance(config.dtype, torch.dtype) else torch.bfloat16


def factory_of(order: TrainingOrder, voice: DaemonLink) -> Any:
    """What makes the trainer of the method."""
    tokenizer = tokenizer_of(order)
    if order.method in RETRIEVAL_TASKS:
        return RetrievalFactory(order, voice, tokenizer)
    from .methods import TrainerFactory  # trl takes seconds to import

    return TrainerFactory(order, voice, tokenizer)


def model_of(order: TrainingOrder) -> Any:
    """The weights, on the device of this process."""
    recipe = order.recipe
    dtype = getattr(torch, recipe["precision"])
    if recipe["kind"] == "full":
        # Steps are smaller than the last bit of 16: the weights have 32, what is computed with them 16.
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
            # What is cut up over several GPUs must be kept as numbers of one kind.
            bnb_4bit_quant_storage=dtype if cut else torch.uint8,
        )
        if not cut:
            options["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0"))}
    if recipe["tensor_parallel"] > 1:
        parts = recipe["tensor_parallel"]
        PartialState(cpu=recipe["device"] == "cpu")  # the processes find each other
        options["distributed_config"] = DistributedConfig(
            tp_size=parts, fsdp_size=recipe["processes"] // parts
        )
    kind = RETRIEVAL_TASKS[order.method][0] if order.method in RETRIEVAL_TASKS else AutoModelForCausalLM
    model = kind.from_pretrained(order.model, **options, **_OFFLINE)
    model.config.use_cache = False
    return model


def lora_of(order: TrainingOrder, model: Any) -> LoraConfig | None:
    """Adapters on every linear layer of the blocks, or nothing where the whole model is trained."""
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
    found = {name.rpartition(".")[2] for name, _ in model.named_modules()} & LORA_LAYERS
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


def run(order: TrainingOrder, voice: DaemonLink) -> None:
    """Train from the last whole checkpoint on, or from the start; say ``done`` unless the daemon asked to pause."""
    logging.disable_progress_bar()
    disable_progress_bars()
    recipe = order.recipe
    if recipe["threads"]:
        torch.set_num_threads(recipe["threads"])
    set_seed(recipe["seed"])
    order.checkpoints.mkdir(parents=True, exist_ok=True)
    resumed = watch.last_checkpoint(order.checkpoints)
    voice.send("stage", stage="data", message="Reading the examples")
    bench = factory_of(order, voice)
    voice.send("stage", stage="model", message=f"Loading '{order.name}'")
    model = model_of(order)
    lora = lora_of(order, model)
    if isinstance(bench, RetrievalFactory):
        bench.measure_base(model)
    micro_batch, accumulation = _confirmed(order, bench, model, lora, voice)
    trainer = bench.trainer(model, lora, micro_batch, accumulation)
    trainer.remove_callback(PrinterCallback)
    if resumed is not None:
        voice.send(
            "say",
            level="info",
            message=f"Continuing from the checkpoint of step {watch.step_of(resumed)}.",
        )
    voice.send("stage", stage="training", message=f"{recipe['steps']} steps")
    trainer.train(resume_from_checkpoint=str(resumed) if resumed is not None else None)
    if voice.paused.is_set() and trainer.state.global_step < trainer.state.max_steps:
        voice.send("paused", step=trainer.state.global_step)
        return
    measured = (
        bench.write(trainer, dtype_of(order))
        if isinstance(bench, RetrievalFactory)
        else _write(order, trainer)
    )
    if trainer.is_world_process_zero():
        best = trainer.state.best_model_checkpoint
        step = watch.step_of(Path(best)) if best else trainer.state.global_step
        values = {**bench.watch.values, **measured}
        result = {"step": step, "tokens": bench.watch.tokens, "values": values}
        draft = order.result.with_suffix(".new")
        draft.write_text(json.dumps(result), encoding="utf-8")
        draft.replace(order.result)
        voice.send("done", path=str(order.adapter), **result)


def _confirmed(order: TrainingOrder, bench: Any, model: Any, lora: Any, voice: DaemonLink) -> tuple[int, int]:
    """The micro batch that fits, and the accumulation that keeps the batch as it was."""
    recipe = order.recipe
    micro_batch, accumulation = recipe["micro_batch"], recipe["accumulation"]
    if micro_batch <= 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return micro_batch, accumulation
    if recipe["device"] == "cuda" and recipe["kind"] != "qlora":  # weights in four bits are there already
        model.to("cuda")
    probed = get_peft_model(model, lora) if lora is not None else model
    if recipe["checkpointing"]:
        probed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        probed.enable_input_require_grads()
    voice.send("stage", stage="memory", message="Measuring the memory that one step takes")
    found = fits_memory(bench.trial(probed), micro_batch)
    if lora is not None:
        probed.unload()
    if found < micro_batch:
        accumulation = -(-micro_batch * accumulation // found)
        voice.send(
            "say",
            level="warn",
            message=f"{micro_batch} examples at once do not fit the memory: {found} at once, "
            f"{accumulation} times a step.",
        )
    return found, accumulation


def _write(order: TrainingOrder, trainer: Any) -> dict[str, float]:
    """The adapter, or the whole model: whole or not there. Nothing is measured with it."""
    draft = order.adapter.with_suffix(".new")
    if order.recipe["kind"] == "full":
        trainer.model.config.use_cache = True
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            trainer.model.to(dtype_of(order))  # it was trained in 32 bits
    trainer.save_model(str(draft))
    if trainer.is_world_process_zero():
        watch.checkpoint_named(draft, order.name)
        watch.finish(draft, order.adapter)
    return {}
