"""A typical script that trains an adapter with trl; `finetune.py` runs it in the training environment.

``python bare_trl.py BASE EXAMPLES SETTINGS``; the last line is JSON: tokens and seconds of all steps but the
first, and the median of these steps' tokens per second.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):  # type: ignore[misc]
    """A callback that records the time of each logged step."""

    def __init__(self) -> None:
        self.looks: list[tuple[float, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "loss" in logs:
            self.looks.append((time.monotonic(), logs["num_tokens"]))


def main() -> None:
    """Train, and print the speed."""
    base, examples, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    set_seed(settings["seed"])
    tokenizer = AutoTokenizer.from_pretrained(base)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = [json.loads(line)["messages"] for line in Path(examples).read_text(encoding="utf-8").splitlines()]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
            args=SFTConfig(
                output_dir=folder,
                max_steps=settings["steps"],
                per_device_train_batch_size=settings["micro_batch"],
                learning_rate=settings["learning_rate"],
                max_length=settings["max_length"],
                save_steps=settings["eval_interval"],
                save_total_limit=2,
                logging_steps=1,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=settings.get("device", "cpu") == "cpu",
                report_to="none",
                seed=settings["seed"],
            ),
            train_dataset=Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows]),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                task_type="CAUSAL_LM",
                r=settings["rank"],
                lora_alpha=settings["alpha"],
                target_modules="all-linear",
            ),
            callbacks=[clock],
        )
        trainer.train()
    (begin, before), (end, after) = clock.looks[0], clock.looks[-1]
    rates = [
        (tokens - earlier_tokens) / (at - earlier)
        for (earlier, earlier_tokens), (at, tokens) in itertools.pairwise(clock.looks)
    ]
    totals = {"tokens": after - before, "seconds": end - begin}
    print(json.dumps({**totals, "tokens_per_second": statistics.median(rates)}))


if __name__ == "__main__":
    main()
