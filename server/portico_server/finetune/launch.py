"""How the processes of a training are started: here, one for each device. Other places come as other launchers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from portico_server.finetune.recipe import Recipe
from portico_server.subprocesses import run_module

CHILD: Final = "child"
"""The package that trains, alone on the path of an interpreter that has nothing of ours."""

SHARDED: Final[Mapping[str, str]] = {"zero2": "SHARD_GRAD_OP", "zero3": "FULL_SHARD", "fsdp": "FULL_SHARD"}
"""ZeRO's stages in the words of PyTorch's FSDP, which does the same without a further package."""


class Launcher(Protocol):
    """Turns a recipe into a command line. It must pass standard input and output on to the first process."""

    def command(self, python: Path, recipe: Recipe, order: Path) -> Sequence[str]:
        """What starts the training that ``order`` describes."""


class Local:
    """On this machine: one process, or as many as there are devices through accelerate."""

    def command(self, python: Path, recipe: Recipe, order: Path) -> Sequence[str]:
        """See `Launcher`."""
        if recipe.processes == 1:
            return run_module(CHILD, str(order), python=python)
        mixed = {"bfloat16": "bf16", "float16": "fp16"}.get(recipe.precision, "no")
        line = run_module(
            "accelerate.commands.launch", "--num_processes", str(recipe.processes), python=python
        )
        line += ["--num_machines", "1", "--mixed_precision", mixed, "--dynamo_backend", "no"]
        if recipe.device == "cpu":
            line += ["--cpu", "--num_cpu_threads_per_process", str(max(1, recipe.threads))]
        elif recipe.sharding in SHARDED:
            line += ["--use_fsdp", "--fsdp_sharding_strategy", SHARDED[recipe.sharding]]
            line += ["--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP", "--fsdp_use_orig_params", "true"]
            line += ["--fsdp_state_dict_type", "FULL_STATE_DICT", "--fsdp_cpu_ram_efficient_loading", "true"]
        else:
            line += ["--multi_gpu"]
        return [*line, "--module", CHILD, str(order)]
