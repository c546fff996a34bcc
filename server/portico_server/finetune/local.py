"""Training on this machine, in a process and an environment of its own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import shutil
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from portico.wire import Status
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError, Unavailable
from portico_server.core.interfaces import Evaluator, Report, TrainingEnvironment
from portico_server.finetune.courtesy import courtesy
from portico_server.finetune.launch import Launcher, Local
from portico_server.finetune.process import Training
from portico_server.finetune.trainer import Checkpoint, Log, Metrics, Task, Trained, TrainEvent
from portico_server.grading.grade import Grading, ModelAnswer

NICE: Final = 10
"""How far behind everything else on the machine training stands."""

BEGINNINGS: Final = 3
"""How often a process that was killed is begun anew without a new checkpoint in between."""

ADAPTER: Final = "adapter_config.json"
"""The file by which a checkpoint is an adapter and not a whole model."""

SPARE: Final = 256 * 1024 * 1024
"""Bytes of disk that must be left."""


class LocalTrainer:
    """A `portico_server.finetune.trainer.Trainer`. ``logs`` is the folder for the logs of the processes.

    ``answering`` says whether a model on the processor is at work: what is trained there then stands still.
    """

    def __init__(
        self,
        workshop: TrainingEnvironment,
        light: Evaluator,
        logs: Path,
        *,
        nice: int = NICE,
        answering: Callable[[], bool] | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        self._workshop = workshop
        self._light = light
        self._logs = logs
        self._nice = nice
        self._answering = answering
        self._launcher = launcher or Local()

    async def train(self, task: Task, context: Context) -> AsyncGenerator[TrainEvent, None]:
        """See `portico_server.finetune.trainer.Trainer`."""
        done = await pools.TRAINING.run(_finished, task.folder)
        if done is not None:
            yield done
            return
        await pools.TRAINING.run(_check_room, task)

        async def report(stage: str, words: str) -> None:
            await context.emit(Status(stage, words))

        python = await self._workshop.interpreter(report)
        base = await self._workshop.folder(task.base, python, report)
        order = await pools.TRAINING.run(self._write, task, base)
        command = self._launcher.command(python, task.recipe, order)
        attempt = _Attempt(Grading(task.job.spec.grader or {}, self._light, context), report)
        answering = self._answering if task.recipe.device == "cpu" else None
        left = BEGINNINGS
        while True:
            left -= 1
            reached = attempt.saved
            process = await Training.start(command, self._logs / f"{task.job.id}.log")
            try:
                async with courtesy(process, answering), contextlib.aclosing(process.events()) as heard:
                    async for said in heard:
                        for event in await attempt.heard(said, process):
                            yield event
            except (asyncio.CancelledError, GeneratorExit):
                await process.pause()
                raise
            finally:
                await process.end()
            if attempt.over:
                return
            left = BEGINNINGS if attempt.saved > reached else left
            if not process.killed or not left:
                raise EngineFailed(
                    f"The training {process.fate()}. {attempt.kept()} Less memory is taken with a smaller "
                    "'micro_batch' or 'max_length'.",
                    code="training_crashed",
                )
            yield Log("warn", f"The training {process.fate()}; it goes on. {attempt.kept()}")

    def _write(self, task: Task, base: Path) -> Path:
        """The order, as the child reads it."""
        task.folder.mkdir(parents=True, exist_ok=True)
        recipe = {name: value for name, value in task.recipe.to_json().items() if name != "reasons"}
        order = {
            "method": task.job.spec.method,
            "name": task.base.name,
            "model": str(base),
            "folder": str(task.folder),
            "training": str(task.data.training),
            "validation": str(task.data.validation) if task.data.validation else None,
            "recipe": recipe,
            "nice": self._nice,
        }
        path = task.folder / "order.json"
        path.write_bytes(orjson.dumps(order))
        return path


@dataclass(slots=True)
class _Attempt:
    """What came of the processes so far."""

    grading: Grading
    report: Report
    saved: int = 0
    over: bool = False
    warned: bool = False

    async def heard(self, said: Mapping[str, Any], process: Training) -> list[TrainEvent]:
        """The events that a line of the child is; answers to it are sent. Raises what it failed with."""
        match said["event"]:
            case "stage":
                await self.report(said["stage"], said["message"])
            case "step":
                values = dict(said["values"])
                return [Metrics(said["step"], said["total"], values.pop("train_loss", None), values)]
            case "checkpoint":
                self.saved = said["step"]
                return [Checkpoint(said["step"], Path(said["path"]), said["values"])]
            case "say":
                return [Log(said["level"], said["message"])]
            case "grade":
                answers = [ModelAnswer(one["text"], one["item"]) for one in said["answers"]]
                rewards, trouble = await self.grading.rewards(answers)
                await process.tell(do="grades", rewards=rewards)
                if trouble and not self.warned:
                    self.warned = True
                    return [Log("warn", trouble)]
            case "done":
                self.over = True
                return [_trained(Path(said["path"]), said)]
            case "error":
                raise _failure(said["code"], said["message"])
        return []

    def kept(self) -> str:
        """What there is to go on from."""
        return (
            f"The checkpoint of step {self.saved} is kept." if self.saved else "There is no checkpoint yet."
        )


def _failure(code: str, message: str) -> PorticoError:
    if code == "disk_full":
        return Unavailable(message, code=code)
    if code == "not_a_number":
        return InvalidRequest(message, code=code, param="hyperparameters")
    return EngineFailed(message, code=code)


def _finished(folder: Path) -> Trained | None:
    """The result of an earlier attempt, which was cut off before anybody took it."""
    try:
        result = orjson.loads((folder / "result.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    adapter = folder / "adapter"
    return _trained(adapter, result) if adapter.is_dir() else None


def _trained(path: Path, result: Mapping[str, Any]) -> Trained:
    """With the adapters of other checkpoints that were kept; whole models would take the disk several times over."""
    step = int(result["step"])
    others = tuple(
        Checkpoint(other, place)
        for place in path.parent.glob("checkpoints/checkpoint-*")
        if (other := int(place.name.rpartition("-")[2])) != step and (place / ADAPTER).is_file()
    )
    return Trained(path, int(result["tokens"]), result["values"], step, others)


def _check_room(task: Task) -> None:
    """Raise `Unavailable` if disk or memory are not enough. Blocks."""
    recipe = task.recipe
    folder = next(place for place in (task.folder, *task.folder.parents) if place.exists())
    free = shutil.disk_usage(folder).free
    if free < recipe.disk_bytes + SPARE:
        raise Unavailable(
            f"Training '{task.base.name}' writes about {recipe.disk_bytes / 1e9:.1f} GB, and {folder} has "
            f"{free / 1e9:.1f} GB. Make room, or move the home.",
            code="disk_full",
        )
    if recipe.device == "cpu":
        available = importlib.import_module("psutil").virtual_memory().available
        if available < recipe.memory_bytes:
            raise Unavailable(
                f"Training '{task.base.name}' takes about {recipe.memory_bytes / 1e9:.1f} GB of memory, and "
                f"{available / 1e9:.1f} GB are free. Unload models, lower 'micro_batch' or 'max_length', or train "
                "a smaller one.",
                code="out_of_memory",
            )
