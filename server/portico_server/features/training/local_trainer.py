"""Training in a separate process and environment, started by a launcher. Training on the CPU yields to calls."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from portico.wire import Progressed
from portico_server.core import pools
from portico_server.core.base_models import Report, TrainingEnvironment
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError, Unavailable
from portico_server.core.interfaces import Evaluator
from portico_server.features.grading.grade import Grading, ModelAnswer
from portico_server.features.training.training_command import training_command
from portico_server.features.training.training_events import (
    Checkpoint,
    Metrics,
    TrainedWeights,
    TrainEvent,
    TrainingTask,
    TrainLog,
)
from portico_server.features.training.training_process import TrainingProcess, training_order
from portico_server.launchers.local import this_machine
from portico_server.launchers.protocol import Launcher, Resources

# Training on the CPU pauses while the daemon answers calls on the CPU. A low priority is not enough: the
# threads of an engine wait for each other many times per token. If training takes the core of one of these
# threads, or only memory bandwidth, the engine loses two thirds of its speed.


POLL_INTERVAL_S: Final = 0.05
"""Seconds between two checks whether a call is being answered."""

MAX_PAUSE_S: Final = 5.0
"""Maximum seconds of a pause, even if calls are still being answered."""

MIN_WORK_S: Final = 0.5
"""Minimum seconds that training runs after a pause of that length, even if calls are being answered."""


class Pausable(Protocol):
    """A process that can be suspended, such as `portico_server.features.training.training_process.TrainingProcess`."""

    def suspend(self) -> None:
        """Suspend the process."""

    def resume(self) -> None:
        """Resume the process, even if it was not suspended."""


@asynccontextmanager
async def yield_to_calls(training: Pausable, answering: Callable[[], bool] | None) -> AsyncGenerator[None]:
    """Suspend ``training`` while ``answering`` returns true. Without ``answering``, never suspend it."""
    if answering is None:
        yield
        return
    watching = asyncio.create_task(_give_way(training, answering), name="a training gives way")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        training.resume()


async def _give_way(training: Pausable, answering: Callable[[], bool]) -> None:
    stood = 0.0
    while True:
        await asyncio.sleep(POLL_INTERVAL_S)  # polling, because a new call only increments a counter
        is_wanted = answering()
        if is_wanted and stood < MAX_PAUSE_S:
            if not stood:
                training.suspend()
            stood += POLL_INTERVAL_S
        elif stood:
            training.resume()
            stood = 0.0
            if is_wanted:
                await asyncio.sleep(MIN_WORK_S)


NICE_LEVEL: Final = 10
"""Nice level of training processes, so that all other processes on the machine have priority."""

MAX_STARTS: Final = 3
"""Maximum number of restarts of a killed process without a new checkpoint in between."""

ADAPTER_FILE: Final = "adapter_config.json"
"""The file that distinguishes an adapter from a complete model in a checkpoint."""

MIN_FREE_BYTES: Final = 256 * 1024 * 1024
"""Disk space, in bytes, that must remain free."""


class LocalTrainer:
    """A `Trainer` that uses launchers. ``logs`` is the folder for the logs of the processes.

    ``answering`` returns whether a model on the CPU is answering a call; training on the CPU then pauses.
    ``find_launcher`` returns a launcher by its name. ``replace_s`` seconds before the launcher's time limit, training
    moves to another scheduler job.
    """

    def __init__(
        self,
        environment: TrainingEnvironment,
        light: Evaluator,
        logs: Path,
        *,
        nice: int = NICE_LEVEL,
        answering: Callable[[], bool] | None = None,
        find_launcher: Callable[[str], Awaitable[Launcher]] = this_machine,
        replace_s: float = 300.0,
    ) -> None:
        self._environment = environment
        self._light = light
        self._logs = logs
        self._nice = nice
        self._answering = answering
        self._find_launcher = find_launcher
        self._replace_s = replace_s

    async def train(self, task: TrainingTask, context: Context) -> AsyncGenerator[TrainEvent, None]:
        """Train in a child process. See `portico_server.features.training.training_events.Trainer`."""
        trained_weights = await pools.TRAINING.run(_find_result, task.folder)
        if trained_weights is not None:
            yield trained_weights
            return
        spec = task.job.spec
        launcher = await self._find_launcher(spec.launcher)
        is_here = launcher.here
        await pools.TRAINING.run(_check_room, task, is_here)

        async def report(stage: str, words: str) -> None:
            await context.emit(Progressed(stage, words))

        python = await self._environment.interpreter(report)
        base = await self._environment.folder(task.base, python, report)
        path = await pools.TRAINING.run(self._write, task, base)
        command = training_command(python, task.recipe, path)
        attempt = _Attempt(Grading(task.job.spec.grader or {}, self._light, context), report)
        answering = self._answering if is_here and task.recipe.device == "cpu" else None
        queue: asyncio.Queue[str] = asyncio.Queue()
        log = self._logs / f"{task.job.id}.log"
        order = training_order(task.job.id, command, log, several=task.recipe.processes > 1)
        order = replace(order, resources=Resources.parse(spec.resources), on_wait=queue.put_nowait)
        remaining_starts = MAX_STARTS
        while True:
            remaining_starts -= 1
            reached_step = attempt.saved
            yield TrainLog("info", "Starting the training process", {"stage": "process"})
            starting = asyncio.ensure_future(launcher.launch(order))
            starting.add_done_callback(lambda _: queue.put_nowait(""))
            try:
                while words := await queue.get():
                    yield TrainLog("info", f"The training {words}.")
            except (asyncio.CancelledError, GeneratorExit):
                starting.cancel()
                await asyncio.wait([starting])
                if not starting.cancelled() and starting.exception() is None:
                    await starting.result().stop(0)
                raise
            process = TrainingProcess(await starting)
            try:
                async with (
                    yield_to_calls(process, answering),
                    process.paused_in_time(self._replace_s),
                    contextlib.aclosing(process.events()) as events,
                ):
                    async for message in events:
                        for event in await attempt.handle(message, process):
                            yield event
            except (asyncio.CancelledError, GeneratorExit):
                await process.pause()
                raise
            finally:
                await process.end()
            if attempt.ended:
                return
            remaining_starts = MAX_STARTS if attempt.saved > reached_step else remaining_starts
            if process.limited and not process.killed and remaining_starts:
                yield TrainLog(
                    "info",
                    "The training job is about to reach its time limit and continues in another job. "
                    f"{attempt.last_checkpoint()}",
                )
                continue
            if not process.killed or not remaining_starts:
                raise EngineFailed(
                    f"The training {process.exit_description()}. {attempt.last_checkpoint()} To use less "
                    "memory, lower 'micro_batch' or 'max_length'.",
                    code="training_crashed",
                )
            yield TrainLog(
                "warn",
                f"The training {process.exit_description()}; it continues. {attempt.last_checkpoint()}",
            )

    def _write(self, task: TrainingTask, base: Path) -> Path:
        """Write the training order that the child process reads, and return its path."""
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
    """The progress of a training across its processes."""

    grading: Grading
    report: Report
    saved: int = 0
    ended: bool = False
    warned: bool = False

    async def handle(self, event: Mapping[str, Any], process: TrainingProcess) -> list[TrainEvent]:
        """Convert an event of the child process to training events, and send the child any reply it needs.

        Raises the error that the child reports.
        """
        match event["event"]:
            case "stage":
                await self.report(event["stage"], event["message"])
                return [TrainLog("info", event["message"], {"stage": event["stage"]})]
            case "step":
                values = dict(event["values"])
                return [Metrics(event["step"], event["total"], values.pop("train_loss", None), values)]
            case "checkpoint":
                self.saved = event["step"]
                return [Checkpoint(event["step"], Path(event["path"]), event["values"])]
            case "say":
                return [TrainLog(event["level"], event["message"])]
            case "grade":
                answers = [ModelAnswer(answer["text"], answer["item"]) for answer in event["answers"]]
                rewards, trouble = await self.grading.rewards(answers)
                await process.send(do="grades", rewards=rewards)
                if trouble and not self.warned:
                    self.warned = True
                    return [TrainLog("warn", trouble)]
            case "done":
                self.ended = True
                return [_to_weights(Path(event["path"]), event)]
            case "error":
                raise _failure(event["code"], event["message"])
        return []

    def last_checkpoint(self) -> str:
        """Describe the checkpoint from which the next attempt continues."""
        return (
            f"The checkpoint of step {self.saved} has been kept."
            if self.saved
            else "No checkpoint has been saved yet."
        )


def _failure(code: str, message: str) -> PorticoError:
    if code == "disk_full":
        return Unavailable(message, code=code)
    if code == "not_a_number":
        return InvalidRequest(message, code=code, param="hyperparameters")
    return EngineFailed(message, code=code)


def _find_result(folder: Path) -> TrainedWeights | None:
    """Return the result of an earlier attempt that was interrupted before its result was collected."""
    try:
        result = orjson.loads((folder / "result.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    adapter = folder / "adapter"
    return _to_weights(adapter, result) if adapter.is_dir() else None


def _to_weights(path: Path, result: Mapping[str, Any]) -> TrainedWeights:
    """Return the trained weights, with the adapters of the other checkpoints that were kept.

    Other checkpoints of whole models are left out because they would multiply the disk space needed.
    """
    step = int(result["step"])
    checkpoints = tuple(
        Checkpoint(other_step, place)
        for place in path.parent.glob("checkpoints/checkpoint-*")
        if (path / ADAPTER_FILE).is_file()
        and (other_step := int(place.name.rpartition("-")[2])) != step
        and (place / ADAPTER_FILE).is_file()
    )
    return TrainedWeights(path, int(result["tokens"]), result["values"], step, checkpoints)


def _check_room(task: TrainingTask, is_here: bool) -> None:
    """Raise `Unavailable` if there is not enough free disk space or, if the training runs on this machine
    (``is_here``), not enough free memory.

    Blocks.
    """
    recipe = task.recipe
    folder = next(place for place in (task.folder, *task.folder.parents) if place.exists())
    free = shutil.disk_usage(folder).free
    if free < recipe.disk_bytes + MIN_FREE_BYTES:
        raise Unavailable(
            f"Training '{task.base.name}' writes about {recipe.disk_bytes / 1000000000.0:.1f} GB, but "
            f"{folder} has only {free / 1000000000.0:.1f} GB free. Free some disk space, or move the home "
            "folder.",
            code="disk_full",
        )
    if is_here and recipe.device == "cpu":
        available = importlib.import_module("psutil").virtual_memory().available
        if available < recipe.memory_bytes:
            raise Unavailable(
                f"Training '{task.base.name}' needs about {recipe.memory_bytes / 1000000000.0:.1f} GB of "
                f"memory, but only {available / 1000000000.0:.1f} GB are free. Unload models, lower "
                "'micro_batch' or 'max_length', or train a smaller model.",
                code="out_of_memory",
            )
