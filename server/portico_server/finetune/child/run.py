"""One training, from the order to the adapter."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from datasets import disable_progress_bars
from peft import get_peft_model
from transformers import PrinterCallback, set_seed
from transformers.utils import logging

from . import checkpoints
from .methods import Bench
from .model import lora_of, model_of, served_as, tokenizer_of
from .order import Order
from .probe import fitting
from .voice import Voice


def run(order: Order, voice: Voice) -> None:
    """Train from the last whole checkpoint on, or from the start; say ``done`` unless the daemon asked to pause."""
    logging.disable_progress_bar()
    disable_progress_bars()
    recipe = order.recipe
    if recipe["threads"]:
        torch.set_num_threads(recipe["threads"])
    set_seed(recipe["seed"])
    order.checkpoints.mkdir(parents=True, exist_ok=True)
    resumed = checkpoints.last(order.checkpoints)
    voice.say("stage", stage="data", message="Reading the examples")
    bench = Bench(order, voice, tokenizer_of(order))
    voice.say("stage", stage="model", message=f"Loading '{order.name}'")
    model = model_of(order)
    lora = lora_of(order, model)
    micro_batch, accumulation = _confirmed(order, bench, model, lora, voice)
    trainer = bench.trainer(model, lora, micro_batch, accumulation)
    trainer.remove_callback(PrinterCallback)
    if resumed is not None:
        voice.say(
            "say",
            level="info",
            message=f"Going on from the checkpoint of step {checkpoints.step_of(resumed)}.",
        )
    voice.say("stage", stage="training", message=f"{recipe['steps']} steps")
    trainer.train(resume_from_checkpoint=str(resumed) if resumed is not None else None)
    if voice.paused.is_set() and trainer.state.global_step < trainer.state.max_steps:
        voice.say("paused", step=trainer.state.global_step)
        return
    _write(order, trainer)
    if trainer.is_world_process_zero():
        best = trainer.state.best_model_checkpoint
        step = checkpoints.step_of(Path(best)) if best else trainer.state.global_step
        result = {"step": step, "tokens": bench.watch.tokens, "values": bench.watch.values}
        draft = order.result.with_suffix(".new")
        draft.write_text(json.dumps(result), encoding="utf-8")
        draft.replace(order.result)
        voice.say("done", path=str(order.adapter), **result)


def _confirmed(order: Order, bench: Bench, model: Any, lora: Any, voice: Voice) -> tuple[int, int]:
    """The micro batch that fits, and the accumulation that keeps the batch as it was."""
    recipe = order.recipe
    wished, accumulation = recipe["micro_batch"], recipe["accumulation"]
    if wished <= 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return wished, accumulation
    if recipe["device"] == "cuda" and recipe["kind"] != "qlora":  # weights in four bits are there already
        model.to("cuda")
    probed = get_peft_model(model, lora) if lora is not None else model
    if recipe["checkpointing"]:
        probed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        probed.enable_input_require_grads()
    found = fitting(bench.trial(probed), wished)
    if lora is not None:
        probed.unload()
    if found < wished:
        accumulation = -(-wished * accumulation // found)
        voice.say(
            "say",
            level="warn",
            message=f"{wished} examples at once do not fit the memory: {found} at once, {accumulation} times a step.",
        )
    return found, accumulation


def _write(order: Order, trainer: Any) -> None:
    """The adapter, or the whole model: whole or not there."""
    draft = order.adapter.with_suffix(".new")
    if order.recipe["kind"] == "full":
        trainer.model.config.use_cache = True
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            trainer.model.to(served_as(order))  # it was trained in 32 bits
    trainer.save_model(str(draft))
    if not trainer.is_world_process_zero():
        return
    checkpoints.named(draft, order.name)
    for name in ("training_args.bin", "README.md"):  # of no use to whoever gets it
        (draft / name).unlink(missing_ok=True)
    if order.adapter.exists():  # an attempt that was cut off before it wrote its result
        order.adapter.rename(order.adapter.with_suffix(f".{os.getpid()}.old"))
    draft.rename(order.adapter)
