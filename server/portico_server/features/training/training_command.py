"""The command line that starts training, in one process or in one process per device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from portico_server.features.training.spec import TrainingRecipe
from portico_server.launchers.several_nodes import node_command
from portico_server.subprocesses import run_module

CHILD_PACKAGE: Final = "child"
"""The package that contains the training code, the only package of Portico that the training interpreter can import."""

ACCELERATE_MODULE: Final = "accelerate.commands.launch"

TORCHRUN_MODULE: Final = "torch.distributed.run"

FSDP_STRATEGIES: Final[Mapping[str, str]] = {
    "zero2": "SHARD_GRAD_OP",
    "zero3": "FULL_SHARD",
    "fsdp": "FULL_SHARD",
}
"""Maps ZeRO stages to their equivalents in PyTorch's FSDP, which needs no additional package."""


def training_command(python: Path, recipe: TrainingRecipe, order: Path) -> Sequence[str]:
    """Return the command that starts the training described by the file ``order``. Only the first process uses
    standard input and output.
    """
    if recipe.processes == 1:
        return run_module(CHILD_PACKAGE, str(order), python=python)
    return node_command(python, recipe.nodes, _processes(recipe, order))


def _processes(recipe: TrainingRecipe, order: Path) -> list[str]:
    """Return the module that starts the processes of a node, and its arguments, see `node_command`."""
    several = recipe.nodes > 1
    if recipe.device == "cpu":  # accelerate starts only one process on CPUs, whatever its arguments
        line = ["--nnodes", str(recipe.nodes), "--nproc-per-node", str(recipe.processes // recipe.nodes)]
        if several:
            line += [
                "--node-rank",
                "{rank}",
                "--master-addr",
                "{first_host}",
                "--master-port",
                "{first_port}",
            ]
        else:
            line += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
        return [TORCHRUN_MODULE, *line, "--module", CHILD_PACKAGE, str(order)]
    mixed_precision = {"bfloat16": "bf16", "float16": "fp16"}.get(recipe.precision, "no")
    line = ["--num_processes", str(recipe.processes), "--num_machines", str(recipe.nodes)]
    line += ["--mixed_precision", mixed_precision, "--dynamo_backend", "no"]
    if several:
        line += [
            "--machine_rank",
            "{rank}",
            "--main_process_ip",
            "{first_host}",
            "--main_process_port",
            "{first_port}",
        ]
    if recipe.sharding in FSDP_STRATEGIES:
        line += ["--use_fsdp", "--fsdp_sharding_strategy", FSDP_STRATEGIES[recipe.sharding]]
        line += ["--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP", "--fsdp_use_orig_params", "true"]
        line += ["--fsdp_state_dict_type", "FULL_STATE_DICT", "--fsdp_cpu_ram_efficient_loading", "true"]
    else:
        line += ["--multi_gpu"]
    return [ACCELERATE_MODULE, *line, "--module", CHILD_PACKAGE, str(order)]
