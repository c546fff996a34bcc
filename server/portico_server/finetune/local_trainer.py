"""Training where a launcher starts it, in a process and an environment of its own, which yields to calls."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import shutil
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
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
from portico_server.finetune.spec import (
    Checkpoint,
    Metrics,
    TrainedWeights,
    TrainEvent,
    TrainingRecipe,
    TrainingTask,
    TrainLog,
)
from portico_server.grading.grade import Grading, ModelAnswer
from portico_server.launchers.local import this_machine
from portico_server.launchers.protocol import LaunchedProcess, Launcher, LaunchOrder, Resources
from portico_server.subprocesses import SAFE_PATH, run_module

# Training on the processor stands still while the daemon answers on it.
#
# A low priority is not enough: the threads of an engine wait for each other many times a token, and a training that
# gets the core for one of them, or only the memory's attention, costs two thirds of the speed.


POLL_INTERVAL_S: Final = 0.05
"""Seconds between two looks at whether something is being answered."""

MAX_PAUSE_S: Final = 5.0
"""Seconds that a training stands at a time, however much is asked."""

MIN_WORK_S: Final = 0.5
"""Seconds that it then works all the same."""


class Pausable(Protocol):
    """What can stand still: `portico_server.finetune.local_trainer.TrainingProcess`."""

    def suspend(self) -> None:
        """Stand still."""

    def resume(self) -> None:
        """Work again; also where it never stood."""


@asynccontextmanager
async def yield_to_calls(training: Pausable, answering: Callable[[], bool] | None) -> AsyncGenerator[None]:
    """Let ``training`` stand still while ``answering``. Without that it just works."""
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
        await asyncio.sleep(POLL_INTERVAL_S)  # a call that begins is a counter that rises: nobody is told
        wanted = answering()
        if wanted and stood < MAX_PAUSE_S:
            if not stood:
                training.suspend()
            stood += POLL_INTERVAL_S
        elif stood:
            training.resume()
            stood = 0.0
            if wanted:
                await asyncio.sleep(MIN_WORK_S)


# The command line of a training: one process, or one for each device.


CHILD_PACKAGE: Final = "child"
"""The package that trains, alone on the path of an interpreter that has nothing of ours."""

ACCELERATE_MODULE: Final = "accelerate.commands.launch"

TORCHRUN_MODULE: Final = "torch.distributed.run"

NODES_LAUNCHER: Final = "slurm"
"""The launcher that starts a training on several nodes."""

FSDP_STRATEGIES: Final[Mapping[str, str]] = {
    "zero2": "SHARD_GRAD_OP",
    "zero3": "FULL_SHARD",
    "fsdp": "FULL_SHARD",
}
"""ZeRO's stages in the words of PyTorch's FSDP, which does the same without a further package."""


def training_command(python: Path, recipe: TrainingRecipe, order: Path) -> Sequence[str]:
    """What starts the training that ``order`` describes. Standard input and output are the first process's."""
    if recipe.processes == 1:
        return run_module(CHILD_PACKAGE, str(order), python=python)
    line = run_module(f"{CHILD_PACKAGE}.node", *_processes(recipe, order), python=python)
    if recipe.nodes == 1:
        return line
    # One task on each node; the first one alone is spoken to, and with one that ends all end.
    place = f"--nodes={recipe.nodes} --ntasks={recipe.nodes} --ntasks-per-node=1"
    return ["srun", *place.split(), "--input=0", "--kill-on-bad-exit=1", "--unbuffered", *line]


def _processes(recipe: TrainingRecipe, order: Path) -> list[str]:
    """The module that starts the processes of a node, and its arguments; `child.node` fills in the braces."""
    several = recipe.nodes > 1
    if recipe.device == "cpu":  # accelerate starts one process there, whatever it is told
        line = ["--nnodes", str(recipe.nodes), "--nproc-per-node", str(recipe.processes // recipe.nodes)]
        if several:
            line += ["--node-rank", "{rank}", "--master-addr", "{address}", "--master-port", "{port}"]
        else:
            line += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
        return [TORCHRUN_MODULE, *line, "--module", CHILD_PACKAGE, str(order)]
    mixed = {"bfloat16": "bf16", "float16": "fp16"}.get(recipe.precision, "no")
    line = ["--num_processes", str(recipe.processes), "--num_machines", str(recipe.nodes)]
    line += ["--mixed_precision", mixed, "--dynamo_backend", "no"]
    if several:
        line += [
            "--machine_rank",
            "{rank}",
            "--main_process_ip",
            "{address}",
            "--main_process_port",
            "{port}",
        ]
    if recipe.sharding in FSDP_STRATEGIES:
        line += ["--use_fsdp", "--fsdp_sharding_strategy", FSDP_STRATEGIES[recipe.sharding]]
        line += ["--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP", "--fsdp_use_orig_params", "true"]
        line += ["--fsdp_state_dict_type", "FULL_STATE_DICT", "--fsdp_cpu_ram_efficient_loading", "true"]
    else:
        line += ["--multi_gpu"]
    return [ACCELERATE_MODULE, *line, "--module", CHILD_PACKAGE, str(order)]


# The training process as the daemon sees it: events in, commands out, and an end that leaves nothing behind.


MAX_EVENT_BYTES: Final = 64 * 1024 * 1024
"""Bytes of one event at most: answers that are to be graded travel in one."""

MAX_REASON_LINES: Final = 40
"""Last lines of the log in which an error looks for its reason."""

GRACE_S: Final = 4.0
"""Seconds for a last checkpoint when it is asked to end; less than the daemon has for its own end."""

OFFLINE_ENVIRONMENT: Final[Mapping[str, str]] = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
}

# Threads that wait for each other spin for some microseconds, not for as long as it takes: on a busy machine the one
# that is waited for needs the core. Never to spin costs a third of the speed on a quiet one; on one where several
# programs want each core it is twice as fast, so what the operator sets is left as it is.
IDLE_THREAD_ENVIRONMENT: Final[Mapping[str, str]] = {"GOMP_SPINCOUNT": "20000"}


def training_order(name: str, command: Sequence[str], log: Path, *, several: bool = False) -> LaunchOrder:
    """A process that trains, or one that starts ``several``."""
    return LaunchOrder(
        name,
        command,
        log,
        environment={
            **{key: os.environ.get(key, value) for key, value in IDLE_THREAD_ENVIRONMENT.items()},
            **OFFLINE_ENVIRONMENT,
            **SAFE_PATH,  # accelerate starts interpreters of its own
            "PYTHONPATH": str(Path(__file__).parent),
        },
        without=("PYTHON", "VIRTUAL_ENV"),
        line_bytes=MAX_EVENT_BYTES,
        sessions=several,
    )


class TrainingProcess:
    """A training that runs."""

    def __init__(self, process: LaunchedProcess) -> None:
        self._process = process
        self.limited = False
        """Whether it was asked to end for its job's time limit."""

    @asynccontextmanager
    async def paused_in_time(self, replace_s: float) -> AsyncGenerator[None]:
        """Ask for a checkpoint and the end ``replace_s`` seconds before its job's time limit."""
        ends_at = self._process.ends_at
        if ends_at is None:
            yield
            return
        left = ends_at - time.time()

        async def pause() -> None:
            await asyncio.sleep(max(left - replace_s, left / 2, 0.0))
            self.limited = True
            await self.send(do="pause")

        waiting = asyncio.create_task(pause(), name="a training's time limit")
        try:
            yield
        finally:
            waiting.cancel()
            await asyncio.wait([waiting])

    async def events(self) -> AsyncGenerator[Mapping[str, Any]]:
        """What it says, until it ends."""
        async for line in self._process.lines():
            with contextlib.suppress(orjson.JSONDecodeError):  # a library that prints
                event = orjson.loads(line)
                if isinstance(event, dict) and "event" in event:
                    yield event
        await self._process.wait()
        await self._process.wait_for_log()

    async def send(self, **command: Any) -> None:
        """Say something to it; one that has ended does not hear it."""
        await self._process.send(orjson.dumps(command) + b"\n")

    @property
    def killed(self) -> bool:
        """Whether a signal ended it: the system for want of memory, or somebody."""
        code = self._process.returncode
        return code is not None and (code < 0 or code == 128 + signal.SIGKILL)

    def exit_description(self) -> str:
        """How it ended, with its last words."""
        how = self._process.exit_description()
        lines = reversed(self._process.log_lines(MAX_REASON_LINES))
        words = next((line.strip() for line in lines if line.strip()), "")
        return how + (
            f"; its last words: {words[:300]}" if words and (self._process.returncode or 0) >= 0 else ""
        )

    @property
    def pid(self) -> int | None:
        """``None`` where it runs on another machine."""
        return self._process.pid

    def suspend(self) -> None:
        """Stand still, with all that is in memory, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Work again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.signal(number)

    async def pause(self) -> None:
        """Ask for a checkpoint and the end, and wait for them a moment."""
        if self._process.returncode is None:
            await self.send(do="pause")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    async for _ in self.events():
                        pass

    async def end(self) -> None:
        """End it and all that it started at once. Returns when it is gone."""
        await self._process.stop(0)


NICE_LEVEL: Final = 10
"""How far behind everything else on the machine training stands."""

MAX_STARTS: Final = 3
"""How often a process that was killed is restarted without a new checkpoint in between."""

ADAPTER_FILE: Final = "adapter_config.json"
"""The file by which a checkpoint is an adapter and not a whole model."""

MIN_FREE_BYTES: Final = 256 * 1024 * 1024
"""Bytes of disk that must be left."""


class LocalTrainer:
    """A `portico_server.finetune.spec.Trainer`. ``logs`` is the folder for the logs of the processes.

    ``answering`` says whether a model on the processor is at work: what is trained there then stands still.
    ``find_launcher`` returns a launcher by its name, ``replace_s`` seconds before the end of whose time limit a
    training moves to another job.
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
        """See `portico_server.finetune.spec.Trainer`."""
        done = await pools.TRAINING.run(_finished, task.folder)
        if done is not None:
            yield done
            return
        spec = task.job.spec
        launcher = await self._find_launcher(spec.launcher)
        here = launcher.here
        await pools.TRAINING.run(_check_room, task, here)

        async def report(stage: str, words: str) -> None:
            await context.emit(Progressed(stage, words))

        python = await self._environment.interpreter(report)
        base = await self._environment.folder(task.base, python, report)
        written = await pools.TRAINING.run(self._write, task, base)
        command = training_command(python, task.recipe, written)
        attempt = _Attempt(Grading(task.job.spec.grader or {}, self._light, context), report)
        answering = self._answering if here and task.recipe.device == "cpu" else None
        heard: asyncio.Queue[str] = asyncio.Queue()
        log = self._logs / f"{task.job.id}.log"
        order = training_order(task.job.id, command, log, several=task.recipe.processes > 1)
        order = replace(order, resources=Resources.parse(spec.resources), on_wait=heard.put_nowait)
        left = MAX_STARTS
        while True:
            left -= 1
            reached = attempt.saved
            yield TrainLog("info", "Starting the training process", {"stage": "process"})
            starting = asyncio.ensure_future(launcher.launch(order))
            starting.add_done_callback(lambda _: heard.put_nowait(""))
            try:
                while words := await heard.get():
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
            left = MAX_STARTS if attempt.saved > reached else left
            if process.limited and not process.killed and left:
                yield TrainLog(
                    "info",
                    f"The time limit of the training's job comes; it continues in another. {attempt.last_checkpoint()}",
                )
                continue
            if not process.killed or not left:
                raise EngineFailed(
                    f"The training {process.exit_description()}. {attempt.last_checkpoint()} Less memory is "
                    "taken with a smaller 'micro_batch' or 'max_length'.",
                    code="training_crashed",
                )
            yield TrainLog(
                "warn",
                f"The training {process.exit_description()}; it continues. {attempt.last_checkpoint()}",
            )

    def _write(self, task: TrainingTask, base: Path) -> Path:
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
    ended: bool = False
    warned: bool = False

    async def handle(self, event: Mapping[str, Any], process: TrainingProcess) -> list[TrainEvent]:
        """The events that a line of the child is; answers to it are sent. Raises what it failed with."""
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
                answers = [ModelAnswer(one["text"], one["item"]) for one in event["answers"]]
                rewards, trouble = await self.grading.rewards(answers)
                await process.send(do="grades", rewards=rewards)
                if trouble and not self.warned:
                    self.warned = True
                    return [TrainLog("warn", trouble)]
            case "done":
                self.ended = True
                return [_trained(Path(event["path"]), event)]
            case "error":
                raise _failure(event["code"], event["message"])
        return []

    def last_checkpoint(self) -> str:
        """What the next attempt continues from."""
        return (
            f"The checkpoint of step {self.saved} is kept." if self.saved else "There is no checkpoint yet."
        )


def _failure(code: str, message: str) -> PorticoError:
    if code == "disk_full":
        return Unavailable(message, code=code)
    if code == "not_a_number":
        return InvalidRequest(message, code=code, param="hyperparameters")
    return EngineFailed(message, code=code)


def _finished(folder: Path) -> TrainedWeights | None:
    """The result of an earlier attempt, which was cut off before anybody took it."""
    try:
        result = orjson.loads((folder / "result.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    adapter = folder / "adapter"
    return _trained(adapter, result) if adapter.is_dir() else None


def _trained(path: Path, result: Mapping[str, Any]) -> TrainedWeights:
    """With the adapters of other checkpoints that were kept; whole models would take the disk several times over."""
    step = int(result["step"])
    others = tuple(
        Checkpoint(other, place)
        for place in path.parent.glob("checkpoints/checkpoint-*")
        if (path / ADAPTER_FILE).is_file()
        and (other := int(place.name.rpartition("-")[2])) != step
        and (place / ADAPTER_FILE).is_file()
    )
    return TrainedWeights(path, int(result["tokens"]), result["values"], step, others)


def _check_room(task: TrainingTask, here: bool) -> None:
    """Raise `Unavailable` if the disk is not enough, or the memory where it trains ``here``. Blocks."""
    recipe = task.recipe
    folder = next(place for place in (task.folder, *task.folder.parents) if place.exists())
    free = shutil.disk_usage(folder).free
    if free < recipe.disk_bytes + MIN_FREE_BYTES:
        raise Unavailable(
            f"Training '{task.base.name}' writes about {recipe.disk_bytes / 1e9:.1f} GB, and {folder} has "
            f"{free / 1e9:.1f} GB. Make room, or move the home.",
            code="disk_full",
        )
    if here and recipe.device == "cpu":
        available = importlib.import_module("psutil").virtual_memory().available
        if available < recipe.memory_bytes:
            raise Unavailable(
                f"Training '{task.base.name}' takes about {recipe.memory_bytes / 1e9:.1f} GB of memory, and "
                f"{available / 1e9:.1f} GB are free. Unload models, lower 'micro_batch' or 'max_length', or train "
                "a smaller one.",
                code="out_of_memory",
            )
