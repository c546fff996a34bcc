"""A training run, from the order to the trained weights: the model, the memory probe, the trainer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from datasets import disable_progress_bars
from peft import get_peft_model
from transformers import (
    PrinterCallback,
    set_seed,
)
from transformers.utils import logging

from . import checkpoints
from .base_model import dtype_of, factory_of, lora_of, model_of
from .daemon import DaemonLink, TrainingOrder
from .memory_probe import fits_memory
from .retrieval import RetrievalFactory


def run(order: TrainingOrder, voice: DaemonLink) -> None:
    """Train from the last complete checkpoint, or from the start. Send ``done`` unless the daemon asked to pause."""
    logging.disable_progress_bar()
    disable_progress_bars()
    recipe = order.recipe
    if recipe["threads"]:
        torch.set_num_threads(recipe["threads"])
    set_seed(recipe["seed"])
    order.checkpoints.mkdir(parents=True, exist_ok=True)
    path = checkpoints.last_checkpoint(order.checkpoints)
    voice.send("stage", stage="data", message="Reading the examples")
    bench = factory_of(order, voice)
    voice.send("stage", stage="model", message=f"Loading '{order.name}'")
    model = model_of(order)
    lora = lora_of(order, model)
    if isinstance(bench, RetrievalFactory):
        bench.measure_base(model)
    micro_batch, accumulation = _confirm_batch(order, bench, model, lora, voice)
    trainer = bench.trainer(model, lora, micro_batch, accumulation)
    trainer.remove_callback(PrinterCallback)
    if path is not None:
        voice.send(
            "say",
            level="info",
            message=f"Continuing from the checkpoint of step {checkpoints.step_of(path)}.",
        )
    voice.send("stage", stage="training", message=f"{recipe['steps']} steps")
    trainer.train(resume_from_checkpoint=str(path) if path is not None else None)
    if voice.paused.is_set() and trainer.state.global_step < trainer.state.max_steps:
        voice.send("paused", step=trainer.state.global_step)
        return
    measures = (
        bench.write(trainer, dtype_of(order))
        if isinstance(bench, RetrievalFactory)
        else _write(order, trainer)
    )
    if trainer.is_world_process_zero():
        best = trainer.state.best_model_checkpoint
        step = checkpoints.step_of(Path(best)) if best else trainer.state.global_step
        values = {**bench.watch.values, **measures}
        result = {"step": step, "tokens": bench.watch.tokens, "values": values}
        draft = order.result.with_suffix(".new")
        draft.write_text(json.dumps(result), encoding="utf-8")
        draft.replace(order.result)
        voice.send("done", path=str(order.adapter), **result)


def _confirm_batch(
    order: TrainingOrder, bench: Any, model: Any, lora: Any, voice: DaemonLink
) -> tuple[int, int]:
    """Return the micro batch that fits into memory, and the accumulation steps that preserve the batch size."""
    recipe = order.recipe
    micro_batch, accumulation = recipe["micro_batch"], recipe["accumulation"]
    if micro_batch <= 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return micro_batch, accumulation
    if recipe["device"] == "cuda" and recipe["kind"] != "qlora":  # 4-bit weights are already on the GPU
        model.to("cuda")
    trial_model = get_peft_model(model, lora) if lora is not None else model
    if recipe["checkpointing"]:
        trial_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        trial_model.enable_input_require_grads()
    voice.send("stage", stage="memory", message="Measuring the memory of one step")
    micro_batch_limit = fits_memory(bench.trial(trial_model), micro_batch)
    if lora is not None:
        trial_model.unload()
    if micro_batch_limit < micro_batch:
        accumulation = -(-micro_batch * accumulation // micro_batch_limit)
        voice.send(
            "say",
            level="warn",
            message=f"{micro_batch} examples at a time do not fit into memory, so each step processes "
            f"{micro_batch_limit} at a time, {accumulation} times.",
        )
    return micro_batch_limit, accumulation


def _write(order: TrainingOrder, trainer: Any) -> dict[str, float]:
    """Write the adapter or the whole model, completely or not at all. Returns no measurements."""
    draft = order.adapter.with_suffix(".new")
    if order.recipe["kind"] == "full":
        trainer.model.config.use_cache = True
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            trainer.model.to(dtype_of(order))  # training used 32 bits
    trainer.save_model(str(draft))
    if trainer.is_world_process_zero():
        checkpoints.checkpoint_named(draft, order.name)
        checkpoints.finish(draft, order.adapter)
    return {}
