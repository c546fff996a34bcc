"""A trainer for each method: supervised examples, preferences between answers, graded answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from trl import DPOConfig, GRPOConfig, SFTConfig, SFTTrainer

from .arguments import common_arguments
from .daemon import DaemonLink, TrainingOrder
from .examples import READERS, ChatTemplate, Graded, Pairs, longest_example
from .watch import TrainingMonitor


class TrainerFactory:
    """Prepares a training run: tokenizer, data sets and trainer."""

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
        """Return a function that computes and discards a gradient for a number of copies of the longest example."""
        row = longest_example(self.training)
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
        """Return the method's trainer, ready to train ``model``."""
        make = {"supervised": self._supervised, "dpo": self._dpo, "reinforcement": self._reinforcement}
        trainer_arguments = {
            "model": model,
            "train_dataset": self.training,
            "eval_dataset": self.validation,
            "processing_class": self.tokenizer,
            "peft_config": lora,
            "callbacks": [self.watch],
        }
        return make[self.order.method](trainer_arguments, micro_batch, accumulation)

    def _common(self, micro_batch: int, accumulation: int) -> dict[str, Any]:
        return common_arguments(
            self.order, micro_batch, accumulation, is_validated=self.validation is not None
        )

    def _supervised(self, trainer_arguments: dict[str, Any], micro_batch: int, accumulation: int) -> Any:
        recipe = self.order.recipe
        arguments = SFTConfig(
            **self._common(micro_batch, accumulation),
            max_length=recipe["max_length"],
            packing=recipe["packing"],
            eval_packing=False,
        )
        return SFTTrainer(args=arguments, **trainer_arguments)

    def _dpo(self, trainer_arguments: dict[str, Any], micro_batch: int, accumulation: int) -> Any:
        recipe = self.order.recipe
        arguments = DPOConfig(
            **self._common(micro_batch, accumulation), max_length=recipe["max_length"], beta=recipe["beta"]
        )
        return Pairs(args=arguments, **trainer_arguments)

    def _reinforcement(self, trainer_arguments: dict[str, Any], micro_batch: int, accumulation: int) -> Any:
        recipe = self.order.recipe
        group = recipe["group"]
        # All answers to a prompt are compared with each other, so they must belong to the same step.
        common = self._common(group * max(1, micro_batch // group), accumulation)
        arguments = GRPOConfig(
            **common,
            num_generations=group,
            max_completion_length=recipe["completion"],
            beta=recipe["beta"],
            temperature=1.0,
        )
        return Graded(args=arguments, reward_funcs=[self._reward], **trainer_arguments)

    def _reward(self, prompts: list[str], completions: list[str], item: list[str], **_: Any) -> list[float]:
        """Return the scores of the daemon's grader. The first process, the only one with a link to the daemon, sends
        the answers of all processes.
        """
        answers = [
            {"text": text, "item": json.loads(line)} for text, line in zip(completions, item, strict=True)
        ]
        parts = gather_object([answers])
        grades: list[float] = []
        if self._voice.first:
            grades = self._voice.grade([answer for part in parts for answer in part])
        [grades] = broadcast_object_list([grades])
        before = sum(map(len, parts[: PartialState().process_index]))
        return grades[before : before + len(answers)]
