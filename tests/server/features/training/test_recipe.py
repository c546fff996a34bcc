"""The recipe: which recipe suits a model and a machine, from two cores to eight H200, each setting with its reason."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.gpu_engines.transformers import environment

from portico_server.core.base_models import BaseModel, Device, TrainingMachine
from portico_server.core.errors import InvalidRequest
from portico_server.features.training.recipe_choice import MEMORY_SHARE, choose_recipe
from portico_server.features.training.spec import DataFacts, Hyperparameters, TrainingRecipe
from portico_server.features.training.training_command import (
    ACCELERATE_MODULE,
    TORCHRUN_MODULE,
    training_command,
)
from portico_server.launchers.several_nodes import NODE_TASK

GB = 1024**3


def model(name: str, billions: float, layers: int, hidden: int, vocabulary: int = 150_000) -> BaseModel:
    size = int(billions * 1e9)
    return BaseModel(
        name, Path("m"), "safetensors", "vllm", "x", size, layers, hidden, vocabulary, 32_768, size * 2
    )


MODELS = {
    "135m": model("135m", 0.1345, 30, 576, 49_152),
    "0.6b": model("0.6b", 0.6, 28, 1024),
    "1.7b": model("1.7b", 1.7, 28, 2048),
    "7b": model("7b", 7.6, 28, 3584),
    "14b": model("14b", 14.8, 48, 5120),
    "32b": model("32b", 32.8, 64, 5120),
    "72b": model("72b", 72.7, 80, 8192),
}


def gpus(count: int, name: str, gigabytes: int, capability: float) -> TrainingMachine:
    return TrainingMachine(32, 512 * GB, 400 * GB, (Device(name, gigabytes * GB, capability),) * count)


MACHINES = {
    "laptop": TrainingMachine(2, 24 * GB, 18 * GB),
    "server": TrainingMachine(64, 512 * GB, 400 * GB),
    "t4": gpus(1, "T4", 15, 7.5),
    "l4": gpus(1, "L4", 23, 8.9),
    "4090": gpus(1, "4090", 24, 8.9),
    "a100": gpus(1, "A100", 80, 8.0),
    "h200": gpus(1, "H200", 141, 9.0),
    "2x4090": gpus(2, "4090", 24, 8.9),
    "4xa100": gpus(4, "A100", 80, 8.0),
    "8xh200": gpus(8, "H200", 141, 9.0),
}

DATA = DataFacts(2_000, 600_000, 1_200, 800, 100)

ALL = ("bitsandbytes", "deepspeed", "flash_attn")

FULL = {"kind": "full"}

# machine, model, method, given, kind, precision, processes, sharding, checkpointing
TABLE: list[tuple[str, str, Any, dict[str, Any], str, str, int, str, bool]] = [
    ("laptop", "135m", "supervised", {}, "lora", "float32", 1, "none", False),
    ("laptop", "135m", "dpo", {}, "lora", "float32", 1, "none", False),
    ("laptop", "135m", "reinforcement", {}, "lora", "float32", 1, "none", False),
    ("laptop", "1.7b", "supervised", {}, "lora", "float32", 1, "none", True),
    ("server", "7b", "supervised", {}, "lora", "float32", 1, "none", False),
    ("server", "14b", "dpo", {}, "lora", "float32", 1, "none", False),
    ("t4", "135m", "supervised", {}, "lora", "float16", 1, "none", False),
    ("t4", "0.6b", "supervised", FULL, "full", "float16", 1, "none", True),
    ("t4", "1.7b", "dpo", {}, "lora", "float16", 1, "none", True),
    ("t4", "7b", "supervised", {}, "qlora", "float16", 1, "none", True),
    ("l4", "1.7b", "supervised", {}, "lora", "bfloat16", 1, "none", True),
    ("l4", "7b", "dpo", {}, "lora", "bfloat16", 1, "none", True),
    ("l4", "14b", "supervised", {}, "qlora", "bfloat16", 1, "none", True),
    ("4090", "135m", "supervised", {}, "lora", "bfloat16", 1, "none", False),
    ("4090", "7b", "supervised", {}, "lora", "bfloat16", 1, "none", True),
    ("4090", "14b", "reinforcement", {}, "qlora", "bfloat16", 1, "none", True),
    ("a100", "1.7b", "supervised", FULL, "full", "bfloat16", 1, "none", False),
    ("a100", "7b", "supervised", {}, "lora", "bfloat16", 1, "none", False),
    ("a100", "32b", "dpo", {}, "lora", "bfloat16", 1, "none", True),
    ("a100", "72b", "supervised", {}, "qlora", "bfloat16", 1, "none", True),
    ("h200", "7b", "supervised", FULL, "full", "bfloat16", 1, "none", True),
    ("h200", "14b", "reinforcement", {}, "lora", "bfloat16", 1, "none", True),
    ("h200", "72b", "dpo", {}, "qlora", "bfloat16", 1, "none", True),
    ("2x4090", "135m", "supervised", {}, "lora", "bfloat16", 2, "ddp", False),
    ("2x4090", "1.7b", "supervised", FULL, "full", "bfloat16", 2, "zero2", True),
    ("2x4090", "14b", "supervised", {}, "lora", "bfloat16", 2, "zero3", True),
    ("2x4090", "32b", "supervised", {}, "qlora", "bfloat16", 2, "fsdp", True),
    ("4xa100", "7b", "supervised", {}, "lora", "bfloat16", 4, "ddp", False),
    ("4xa100", "7b", "supervised", FULL, "full", "bfloat16", 4, "zero2", False),
    ("4xa100", "32b", "reinforcement", {}, "lora", "bfloat16", 4, "ddp", True),
    ("4xa100", "72b", "supervised", {}, "lora", "bfloat16", 4, "zero3", True),
    ("8xh200", "7b", "supervised", FULL, "full", "bfloat16", 8, "ddp", False),
    ("8xh200", "32b", "supervised", FULL, "full", "bfloat16", 8, "zero3", False),
    ("8xh200", "72b", "supervised", {}, "lora", "bfloat16", 8, "zero3", False),
    ("8xh200", "72b", "supervised", FULL, "full", "bfloat16", 8, "zero3", True),
]


@pytest.mark.parametrize(
    ("machine", "base", "method", "given", "kind", "precision", "processes", "sharding", "checkpointing"),
    TABLE,
)
def test_a_recipe_suits_model_and_machine(
    machine: str,
    base: str,
    method: Any,
    given: dict[str, Any],
    kind: str,
    precision: str,
    processes: int,
    sharding: str,
    checkpointing: bool,
) -> None:
    recipe = choose_recipe(MODELS[base], DATA, MACHINES[machine], method, overrides=given, packages=ALL)
    assert (recipe.kind, recipe.precision, recipe.processes, recipe.sharding, recipe.checkpointing) == (
        *(kind, precision, processes, sharding),
        checkpointing,
    )
    devices = MACHINES[machine].devices
    room = (
        devices[0].memory_bytes * MEMORY_SHARE["cuda"]
        if devices
        else MACHINES[machine].free_bytes * MEMORY_SHARE["cpu"]
    )
    assert recipe.memory_bytes <= room
    assert recipe.batch % recipe.group == 0
    assert recipe.steps >= 1
    assert recipe.seconds > 0


@pytest.mark.parametrize("method", ["supervised", "dpo", "reinforcement"])
def test_every_setting_has_its_reason(method: Any) -> None:
    recipe = choose_recipe(MODELS["135m"], DATA, MACHINES["laptop"], method)
    estimates = {"memory_bytes", "disk_bytes", "seconds", "seed", "reasons"}
    unexplained = {
        name for name in recipe.to_json() if name not in estimates and not recipe.reasons.get(name)
    }
    if method != "reinforcement":
        unexplained -= {"group", "completion"}
    if method == "supervised":
        unexplained -= {"beta"}
    assert unexplained == set()
    assert TrainingRecipe.from_json(recipe.to_json()) == recipe


def test_the_estimate_for_a_small_model_is_what_was_measured() -> None:
    """The estimate for a small model matches the measurement.

    55 examples, batches of four on two cores: 2.1 GB and about 1.85 s a step.
    """
    recipe = choose_recipe(MODELS["135m"], DataFacts(55, 3_300, 90, 80), MACHINES["laptop"], "supervised")
    assert (recipe.kind, recipe.rank, recipe.batch) == ("lora", 8, 4)
    assert recipe.memory_bytes == pytest.approx(2.1 * GB, rel=0.2)
    assert recipe.seconds / recipe.steps == pytest.approx(1.85, rel=0.2)


@pytest.mark.parametrize(
    ("machine", "base", "given", "words"),
    [
        ("laptop", "7b", {}, "of this machine's memory"),
        ("4090", "7b", FULL, "all weights"),
        ("t4", "32b", {}, "an adapter on four-bit weights"),
        ("a100", "72b", {"kind": "lora"}, "an adapter, one example"),
    ],
)
def test_insufficient_memory_is_refused_with_the_smallest_possible_recipe(
    machine: str, base: str, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidRequest, match="There is not enough memory") as caught:
        choose_recipe(MODELS[base], DATA, MACHINES[machine], "supervised", overrides=given, packages=ALL)
    assert caught.value.code == "memory_insufficient"
    assert words in caught.value.message
    assert "GB" in caught.value.message


def test_four_bit_recipes_are_not_offered_without_bitsandbytes() -> None:
    with pytest.raises(InvalidRequest, match="not enough memory"):
        choose_recipe(MODELS["14b"], DATA, MACHINES["4090"], "supervised")
    with pytest.raises(InvalidRequest) as caught:
        choose_recipe(
            MODELS["135m"], DATA, MACHINES["laptop"], "supervised", overrides={"kind": "qlora"}, packages=ALL
        )
    assert caught.value.param == "overrides.kind"


def command(machine: str, base: str, given: dict[str, Any], **resources: Any) -> list[str]:
    recipe = choose_recipe(
        MODELS[base], DATA, MACHINES[machine], "supervised", overrides=given, resources=resources
    )
    assert TrainingRecipe.from_json(recipe.to_json()) == recipe
    return list(training_command(Path("python"), recipe, Path("/jobs/order.json")))


SPREAD: list[tuple[str, str, dict[str, Any], dict[str, Any], dict[str, str]]] = [
    ("4xa100", "7b", {}, {}, {"num_processes": "4", "num_machines": "1", "mixed_precision": "bf16"}),
    (
        "4xa100",
        "72b",
        {},
        {},
        {"num_processes": "4", "fsdp_sharding_strategy": "FULL_SHARD", "use_fsdp": "True"},
    ),
    ("4xa100", "7b", {"kind": "full", "tensor_parallel": 2}, {}, {"num_processes": "4", "multi_gpu": "True"}),
    (
        "4xa100",
        "32b",
        FULL,
        {"nodes": 4, "gpus": 4},
        {"num_processes": "16", "num_machines": "4", "machine_rank": "1", "main_process_ip": "10.0.0.1"},
    ),
    (
        "laptop",
        "7b",
        {"device": "cuda"},
        {"nodes": 2, "gpus": 8},
        {"num_processes": "16", "num_machines": "2", "machine_rank": "1", "multi_gpu": "True"},
    ),
]


@pytest.mark.slow
def test_the_multi_process_launch_command_is_accepted_by_accelerate() -> None:
    """The launch command for several processes matches accelerate's options.

    Accelerate's own parser reads it; no GPU has run it here.
    """
    lines = []
    for machine, base, overrides, resources, _expected in SPREAD:
        line = command(machine, base, overrides, **resources)
        if "nodes" in resources:
            assert line[: line.index("python")] == [
                "srun", f"--nodes={resources['nodes']}", f"--ntasks={resources['nodes']}", "--ntasks-per-node=1",
                "--input=0", "--kill-on-bad-exit=1", "--unbuffered",
            ]  # fmt: skip
        assert line[line.index("python") :][:2] == ["python", str(NODE_TASK)]
        placeholders = {"{rank}": "1", "{first_host}": "10.0.0.1", "{first_port}": "20001"}
        lines.append([placeholders.get(word, word) for word in line[line.index(ACCELERATE_MODULE) + 1 :]])
    code = (
        "import json, sys; from accelerate.commands.launch import launch_command_parser as made; "
        "read = lambda line: {k: str(v) for k, v in vars(made().parse_args(line)).items()}; "
        "print(json.dumps([read(line) for line in json.loads(sys.argv[1])]))"
    )
    python = environment.interpreter("finetune")
    process = subprocess.run(
        [python, "-c", code, json.dumps(lines)], check=True, capture_output=True, text=True
    )
    for (*_, expected_arguments), arguments in zip(
        SPREAD, json.loads(process.stdout.splitlines()[-1]), strict=True
    ):
        assert expected_arguments.items() <= arguments.items()
        assert (arguments["module"], arguments["training_script"]) == ("True", "child")
        assert arguments["training_script_args"] == "['/jobs/order.json']"


def test_processes_on_the_processor_are_started_by_torchrun_on_each_node() -> None:
    line = command("laptop", "135m", {}, nodes=2)
    assert line[line.index(TORCHRUN_MODULE) + 1 :][:4] == ["--nnodes", "2", "--nproc-per-node", "1"]
    assert line[-3:] == ["--module", "child", "/jobs/order.json"]


@pytest.mark.parametrize(
    ("given", "resources", "param"),
    [
        ({"tensor_parallel": 2}, {}, "overrides.tensor_parallel"),
        ({"tensor_parallel": 3, "kind": "full"}, {}, "overrides.tensor_parallel"),
        ({"tensor_parallel": 8, "kind": "full"}, {"nodes": 2, "gpus": 4}, "overrides.tensor_parallel"),
        ({"tensor_parallel": 2, "kind": "full", "sharding": "fsdp"}, {}, "overrides.tensor_parallel"),
        ({"tensor_parallel": 2, "kind": "full", "device": "cpu"}, {}, "overrides.tensor_parallel"),
        ({"processes": 3}, {"nodes": 2}, "overrides.processes"),
    ],
)
def test_impossible_multi_device_settings_are_refused_by_parameter(
    given: dict[str, Any], resources: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        choose_recipe(
            MODELS["135m"], DATA, MACHINES["4xa100"], "supervised", overrides=given, resources=resources
        )
    assert error.value.param == param


def test_a_large_model_is_sharded_with_fsdp_without_deepspeed() -> None:
    recipe = choose_recipe(MODELS["72b"], DATA, MACHINES["4xa100"], "supervised")
    assert (recipe.sharding, recipe.processes) == ("fsdp", 4)


def test_short_examples_share_a_row_only_with_flash_attention() -> None:
    data = DataFacts(5_000, 500_000, 2_000, 150)
    assert choose_recipe(MODELS["7b"], data, MACHINES["h200"], "supervised", packages=ALL).packing
    assert not choose_recipe(MODELS["7b"], data, MACHINES["h200"], "supervised").packing
    assert not choose_recipe(MODELS["7b"], data, MACHINES["h200"], "dpo", packages=ALL).packing


@pytest.mark.parametrize(
    ("examples", "epochs", "rank", "batch"),
    [(5, 20, 8, 4), (60, 3, 8, 4), (1_000, 3, 16, 8), (9_000, 2, 32, 16), (200_000, 1, 64, 64)],
)
def test_the_size_of_the_data_decides_how_it_is_learnt(
    examples: int, epochs: int, rank: int, batch: int
) -> None:
    recipe = choose_recipe(
        MODELS["0.6b"], DataFacts(examples, examples * 50, 60, 55), MACHINES["h200"], "supervised"
    )
    assert (recipe.epochs, recipe.rank, recipe.batch) == (epochs, rank, batch)


def test_given_settings_are_used_and_explained_as_given() -> None:
    hyperparameters = Hyperparameters(n_epochs=7, batch_size=6, learning_rate_multiplier=2.0)
    overrides = {"rank": 3, "micro_batch": 2, "schedule": "cosine", "max_length": 64}
    recipe = choose_recipe(
        MODELS["135m"], DATA, MACHINES["laptop"], "supervised", hyperparameters, overrides, seed=9
    )
    assert (recipe.epochs, recipe.batch, recipe.micro_batch, recipe.accumulation) == (7, 6, 2, 3)
    assert (recipe.rank, recipe.alpha, recipe.schedule, recipe.max_length, recipe.seed) == (
        3,
        6,
        "cosine",
        64,
        9,
    )
    assert recipe.learning_rate == pytest.approx(2e-3)
    assert {recipe.reasons[name] for name in (*overrides, "epochs", "batch")} == {"as given"}


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"ranks": 8}, "overrides.ranks"),
        ({"rank": 0}, "overrides.rank"),
        ({"rank": True}, "overrides.rank"),
        ({"rank": "8"}, "overrides.rank"),
        ({"learning_rate": float("nan")}, "overrides.learning_rate"),
        ({"packing": 1}, "overrides.packing"),
        ({"kind": "soup"}, "overrides.kind"),
        ({"device": "cuda"}, "overrides.device"),
    ],
)
def test_invalid_setting_values_are_refused_by_name(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        choose_recipe(MODELS["135m"], DATA, MACHINES["laptop"], "supervised", overrides=given)
    assert caught.value.param == param


def test_the_batch_holds_whole_answer_groups_on_any_number_of_devices() -> None:
    for count in range(1, 9):
        recipe = choose_recipe(MODELS["0.6b"], DATA, gpus(count, "A100", 80, 8.0), "reinforcement")
        assert recipe.batch % recipe.group == 0
