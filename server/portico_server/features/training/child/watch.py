"""Callbacks during training: report metrics, write checkpoints, and stop when requested or necessary."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import distributed
from transformers import TrainerCallback

from .checkpoints import checkpoint_named, mark_complete
from .daemon import DaemonLink, TrainingOrder

METRIC_NAMES = {
    "loss": "train_loss",
    "mean_token_accuracy": "train_accuracy",
    "eval_loss": "valid_loss",
    "eval_ndcg_10": "valid_ndcg_10",
    "eval_recall_5": "valid_recall_5",
    "eval_mean_token_accuracy": "valid_accuracy",
    "rewards/margins": "margin",
    "rewards/accuracies": "train_accuracy",
    "eval_rewards/margins": "valid_margin",
    "eval_rewards/accuracies": "valid_accuracy",
    "reward": "reward",
    "reward_std": "reward_std",
    "eval_reward": "valid_reward",
    "kl": "kl",
    "completions/mean_length": "completion_tokens",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "epoch": "epoch",
}
"""Maps the trainers' metric names to Portico's."""

FIRST_CHECKPOINT_STEPS = 5
FIRST_CHECKPOINT_S = 60.0
"""The first checkpoint is written after this number of steps or seconds of training, whichever is first."""

MAX_OVERFLOW_COUNT = 20
"""Number of consecutive steps whose gradients may exceed the range of float16.

The trainer first multiplies the loss by 65,536. It skips a step whose gradients overflow, and then halves this factor.
"""

SPARE_CHECKPOINT_COUNT = 3
"""Number of further checkpoints for which the disk must have space when a checkpoint is written."""


class NotANumber(Exception):
    """The loss is no longer a number; ``step`` is the step at which this was detected."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is no longer a number at step {step}")
        self.step = step


class DiskFull(Exception):
    """The disk has too little space for the next checkpoint."""


class TrainingMonitor(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Reports the progress of ``order`` to the daemon, through ``voice``."""

    def __init__(self, order: TrainingOrder, voice: DaemonLink) -> None:
        self.tokens = 0
        """Number of tokens that training has processed."""
        self.values: dict[str, float] = {}
        """The latest value of each metric."""
        self._order = order
        self._voice = voice
        self._process = psutil.Process()
        self._since = 0.0
        self._counted_tokens = 0
        self._size = 0
        self._best = math.inf
        self._worse = 0
        self._parts = 0
        self._overflow_count = 0
        self._first_checkpoint_due: float | None = None
        """The time, on the monotonic clock, after which the first checkpoint is due; ``None`` once one exists."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not state.global_step:
            self._first_checkpoint_due = time.monotonic() + FIRST_CHECKPOINT_S

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self._since:
            self._since = time.monotonic()

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the progress of the first step, which may take minutes if it has many parts."""
        if not state.global_step:
            self._parts += 1
            message = f"Step 1: {self._parts} of {args.gradient_accumulation_steps} parts"
            self._voice.send("stage", stage="first_step", message=message)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "grad_norm" in logs:
            self._overflow_count = 0 if math.isfinite(logs["grad_norm"]) else self._overflow_count + 1
        if not math.isfinite(logs.get("loss", 0.0)) or self._overflow_count > (
            MAX_OVERFLOW_COUNT if args.fp16 else 0
        ):
            raise NotANumber(state.global_step)
        values = {
            metric_name: float(logs[log_name])
            for log_name, metric_name in METRIC_NAMES.items()
            if isinstance(logs.get(log_name), int | float) and math.isfinite(logs[log_name])
        }
        if not values or "train_runtime" in logs:
            return
        if "loss" in logs:
            values |= self._pace(int(logs.get("num_tokens", self.tokens)))
        self.values |= values
        self._voice.send("step", step=state.global_step, total=state.max_steps, values=values)

    def _pace(self, tokens: int) -> dict[str, float]:
        """Return the tokens per second since the last call, and the memory in use."""
        self.tokens = tokens
        now = time.monotonic()
        values: dict[str, float] = {"tokens": float(tokens), "memory_bytes": float(self._memory())}
        if now > self._since and tokens > self._counted_tokens:
            values["tokens_per_second"] = (tokens - self._counted_tokens) / (now - self._since)
        self._since, self._counted_tokens = now, tokens
        return values

    def _memory(self) -> int:
        if torch.cuda.is_available():
            return int(torch.cuda.max_memory_allocated())
        return int(self._process.memory_info().rss)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        is_due = self._first_checkpoint_due is not None and (
            state.global_step >= FIRST_CHECKPOINT_STEPS or time.monotonic() >= self._first_checkpoint_due
        )
        # only the first process receives a request to pause; all processes stop and save after the same step
        if distributed.is_initialized():
            flags = torch.tensor([float(self._voice.paused.is_set()), float(is_due)], device=args.device)
            distributed.all_reduce(flags, distributed.ReduceOp.MAX)
            is_due = bool(flags[1].item())
            if flags[0].item():
                self._voice.paused.set()
        if is_due:
            control.should_save = True
        if self._voice.paused.is_set():
            control.should_save = True
            control.should_training_stop = True
        return control

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> Any:
        """Stop training after a number of consecutive evaluations without improvement."""
        gain = metrics.get("eval_ndcg_10")
        loss = metrics.get("eval_loss", math.nan) if gain is None else -gain
        self._worse = 0 if loss < self._best else self._worse + 1
        self._best = min(self._best, loss)
        patience = self._order.recipe["patience"]
        if patience and self._worse >= patience:
            control.should_training_stop = True
            best = f"a loss of {self._best:.4f}" if gain is None else f"an nDCG@10 of {-self._best:.4f}"
            self._voice.send(
                "say",
                level="info",
                message=f"Stopped early at step {state.global_step}: {patience} consecutive evaluations did not "
                f"improve on {best}.",
            )
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._first_checkpoint_due = None
        if distributed.is_initialized():
            distributed.barrier()  # wait until all processes have written their parts
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        checkpoint_named(folder, self._order.name)
        mark_complete(folder, self.values)
        self._size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        self._voice.send("checkpoint", step=state.global_step, path=str(folder), values=self.values)
        free = shutil.disk_usage(folder).free
        if free < SPARE_CHECKPOINT_COUNT * self._size:
            raise DiskFull(
                f"the disk has {free / 1000000.0:.0f} MB free, but a checkpoint takes "
                f"{self._size / 1000000.0:.0f}"
            )
