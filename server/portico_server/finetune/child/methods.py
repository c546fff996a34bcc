"""A trainer for each method: supervised examples, preferred answers, graded answers."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from . import data
from .daemon import DaemonLink, TrainingOrder
from .data import ChatTemplate
from .watch import TrainingMonitor

# The recipe in the words of transformers and trl.


TOTAL_CHECKPOINTS = 10
"""About how many are written in all where the recipe has no interval."""

KEPT_CHECKPOINTS = 2
"""Checkpoints that stay on disk: the last one, and the best one where there is validation."""


def common_arguments(
    order: TrainingOrder, micro_batch: int, accumulation: int, *, validated: bool
) -> dict[str, Any]:
    """Arguments of every method's trainer."""
    recipe = order.recipe
    interval = recipe["eval_interval"] or max(1, recipe["steps"] // TOTAL_CHECKPOINTS)
    told: dict[str, Any] = {
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
        "logging_nan_inf_filter": False,  # it would hide a loss that is none
        "save_strategy": "steps",
        "save_steps": interval,
        "save_total_limit": KEPT_CHECKPOINTS,
        "eval_strategy": "steps" if validated else "no",
        "eval_steps": interval,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": recipe["device"] != "cpu",
        # Ours removes nothing that the collators of trl want.
        "remove_unused_columns": False,
    }
    if recipe["checkpointing"]:
        told["gradient_checkpointing_kwargs"] = {"use_reentrant": False}
    if validated:
        told |= {
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_reward" if order.method == "reinforcement" else "eval_loss",
            "greater_is_better": order.method == "reinforcement",
        }
    return told


def _optimiser(wished: str) -> str:
    """Those with 8 bits where their package is."""
    if wished != "adamw_torch" and importlib.util.find_spec("bitsandbytes") is None:
        return "adamw_torch"
    return wished


class _Pairs(DPOTrainer):  # type: ignore[misc]  # trl has no types
    """Takes the token ids as we made them, by the template that the model is served with."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


class _Graded(GRPOTrainer):  # type: ignore[misc]
    """Prompts come as the template wrote them: nothing is added in front."""

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return self.processing_class(prompts, add_special_tokens=False)["input_ids"], None, {}


Read = Callable[[Any, ChatTemplate, int], Dataset]

READERS: dict[str, Read] = {
    "supervised": data.supervised_examples,
    "dpo": data.preference_pairs,
    "reinforcement": data.graded_prompts,
}
"""How the files of a method are read."""


class TrainerFactory:
    """Everything that a training is made of, before it begins."""

    def __init__(self, order: TrainingOrder, voice: DaemonLink, tokenizer: Any) -> None:
        self.order = order
        self.tokenizer = tokenizer
        self.watch = TrainingMonitor(order, voice)
        self._voice = voice
        self._template = ChatTemplate(tokenizer)
        self.training = self._read(order.training)
        self.validation = self._read(order.validation) if order.validation else None

    def _read(self, path: Any) -> Dataset:
        return READERS[self.order.method](path, self._template, self.order.recipe["max_length"])

    def trial(self, model: Any) -> Callable[[int], None]:
        """A gradient for some copies of the longest example, forgotten at once."""
        row = data.longest_example(self.training)
        if "prompt" in row:
            size = len(self._template.ids(row["prompt"])) + self.order.recipe["completion"]
            ids = [self.tokenizer.eos_token_id] * size
        else:
            ids = row["input_ids"] if "input_ids" in row else row["prompt_ids"] + row["chosen_ids"]
        ids = ids[: self.order.recipe["max_length"]]
        copies = 2 if self.order.method == "dpo" else 1

        def step(count: int) -> None:
            batch = torch.tensor([ids] * (count * copies), device=model.device)
            model.train()
            model(input_ids=batch, labels=batch).loss.backward()
            model.zero_grad(set_to_none=True)

        return step

    def trainer(self, model: Any, lora: Any, micro_batch: int, accumulation: int) -> Any:
        """The method's own, ready to train ``model``."""
        make = {"supervised": self._supervised, "dpo": self._dpo, "reinforcement": self._reinforcement}
        given = {
            "model": model,
            "train_dataset": self.training,
            "eval_dataset": self.validation,
            "processing_class": self.tokenizer,
            "peft_config": lora,
            "callbacks": [self.watch],
        }
        return make[self.order.method](given, micro_batch, accumulation)

    def _common(self, micro_batch: int, accumulation: int) -> dict[str, Any]:
        return common_arguments(self.order, micro_batch, accumulation, validated=self.validation is not None)

    def _supervised(self, given: dict[str, Any], micro_batch: int, accumulation: int) -> Any:
        recipe = self.order.recipe
        arguments = SFTConfig(
            **self._common(micro_batch, accumulation),
            max_length=recipe["max_length"],
            packing=recipe["packing"],
            eval_packing=False,
        )
        return SFTTrainer(args=arguments, **given)

    def _dpo(self, given: dict[str, Any], micro_batch: int, accumulation: int) -> Any:
        recipe = self.order.recipe
        arguments = DPOConfig(
            **self._common(micro_batch, accumulation), max_length=recipe["max_length"], beta=recipe["beta"]
        )
        return _Pairs(args=arguments, **given)

    def _reinforcement(self, given: dict[str, Any], micro_batch: int, accumulation: int) -> Any:
        recipe = self.order.recipe
        group = recipe["group"]
        # All answers to a prompt are compared with each other, so they are of one step.
        told = self._common(group * max(1, micro_batch // group), accumulation)
        arguments = GRPOConfig(
            **told,
            num_generations=group,
            max_completion_length=recipe["completion"],
            beta=recipe["beta"],
            temperature=1.0,
        )
        return _Graded(args=arguments, reward_funcs=[self._reward], **given)

    def _reward(self, prompts: list[str], completions: list[str], item: list[str], **_: Any) -> list[float]:
        """What the daemon's grader says."""
        answers = [
            {"text": text, "item": json.loads(line)} for text, line in zip(completions, item, strict=True)
        ]
        return self._voice.grade(answers)
