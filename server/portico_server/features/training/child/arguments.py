"""The recipe as arguments of transformers and trl."""

from __future__ import annotations

import importlib.util
from typing import Any

from .daemon import TrainingOrder

CHECKPOINT_COUNT = 10
"""Approximate number of checkpoints if the recipe sets no interval."""

MAX_KEPT_CHECKPOINTS = 2
"""Maximum number of checkpoints kept on disk: the last and, with validation data, the best."""


BEST_METRICS = {"reinforcement": "eval_reward", "embedding": "eval_ndcg_10", "rerank": "eval_ndcg_10"}
"""Maps methods to the metric by which the best checkpoint is chosen, where higher is better. For other methods, the
checkpoint with the lowest loss is the best.
"""


def common_arguments(
    order: TrainingOrder, micro_batch: int, accumulation: int, *, is_validated: bool
) -> dict[str, Any]:
    """Return the arguments that the trainers of all methods have in common."""
    recipe = order.recipe
    interval = recipe["eval_interval"] or max(1, recipe["steps"] // CHECKPOINT_COUNT)
    arguments: dict[str, Any] = {
        "output_dir": str(order.checkpoints),
        "max_steps": recipe["steps"],
        "per_device_train_batch_size": micro_batch,
        "per_device_eval_batch_size": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": recipe["learning_rate"],
        "lr_scheduler_type": recipe["schedule"],
        "warmup_steps": recipe["warmup"],
        "weight_decay": recipe["weight_decay"],
        "optim": _optimiser(recipe["optimiser"]),
        "bf16": recipe["precision"] == "bfloat16",
        "fp16": recipe["precision"] == "float16",
        "use_cpu": recipe["device"] == "cpu",
        "gradient_checkpointing": recipe["checkpointing"],
        "seed": recipe["seed"],
        "logging_steps": 1,
        "logging_first_step": False,
        "logging_nan_inf_filter": False,  # otherwise, a loss that is not a number would be hidden
        "save_strategy": "steps",
        "save_steps": interval,
        "save_total_limit": MAX_KEPT_CHECKPOINTS,
        "eval_strategy": "steps" if is_validated else "no",
        "eval_steps": interval,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": recipe["device"] != "cpu",
        # Portico's own trainer keeps all columns, because trl's collators need them.
        "remove_unused_columns": False,
    }
    if recipe["checkpointing"]:
        arguments["gradient_checkpointing_kwargs"] = {"use_reentrant": False}
    if is_validated:
        best = BEST_METRICS.get(order.method)
        arguments |= {
            "load_best_model_at_end": True,
            "metric_for_best_model": best or "eval_loss",
            "greater_is_better": best is not None,
        }
    return arguments


def _optimiser(name: str) -> str:
    """Return the name of the 8-bit optimiser if its package is installed, else the given name."""
    if name != "adamw_torch" and importlib.util.find_spec("bitsandbytes") is None:
        return "adamw_torch"
    return name
