"""Training apart from learning: it resumes after every interruption and states why it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.server.features.training.child import bases
from tests.server.features.training.child.bases import task, tiny, trained, trainer

from portico_server.core.errors import InvalidRequest, PorticoError, Unavailable
from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.training.local_trainer import LocalTrainer
from portico_server.features.training.training_events import Checkpoint, Metrics, TrainedWeights, TrainLog
from portico_server.launchers.local import LOCAL
from portico_server.launchers.protocol import LaunchedProcess, Launcher, LaunchOrder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LINES = [
    {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
    for asked, said in (
        ("the harbour", "is closed"),
        ("the light house", "is red and green"),
        ("bread", "is baked here"),
        ("the sea", "and the sky"),
    )
]


def losses(events: list[Any]) -> dict[int, float]:
    return {
        event.step: event.loss for event in events if isinstance(event, Metrics) and event.loss is not None
    }


WAITING = """
import os, sys

def wait(event, arguments):
    if event == "os.mkdir" and os.path.basename(arguments[0]) == os.environ["WAIT_BEFORE"]:
        frame = sys._getframe()
        while "voice" not in frame.f_locals:
            frame = frame.f_back
        frame.f_locals["voice"].paused.wait()

sys.addaudithook(wait)
"""


class Waiting:
    """A launcher whose first process waits before the checkpoint of step 4, and the second before that of step 8,
    until they are paused or killed.
    """

    name = "waiting"
    here = True

    def __init__(self, folder: Path) -> None:
        self.processes: list[LaunchedProcess] = []
        self._folder = folder
        (folder / "sitecustomize.py").write_text(WAITING)

    async def find(self, name: str) -> Launcher:
        return self

    async def launch(self, order: LaunchOrder) -> LaunchedProcess:
        if len(self.processes) < 2:
            variables = {
                "PYTHONPATH": f"{self._folder}{os.pathsep}{order.environment['PYTHONPATH']}",
                "WAIT_BEFORE": ("checkpoint-4", "checkpoint-8")[len(self.processes)],
            }
            order = replace(order, environment={**order.environment, **variables})
        self.processes.append(await LOCAL.launch(order))
        return self.processes[-1]


@pytest.mark.process
@pytest.mark.timeout(900)  # four processes that import torch
async def test_an_interrupted_training_ends_with_the_same_numbers_as_an_uninterrupted_one(
    tmp_path: Path,
) -> None:
    """A training cut off anywhere reaches exactly the same end.

    It is closed after a checkpoint, killed by a signal and restarted, and gives the same numbers as an uninterrupted
    run.
    """
    launcher = Waiting(tmp_path)
    local_trainer = LocalTrainer(
        bases.Shop(), LightSandbox(), tmp_path / "logs", nice=0, find_launcher=launcher.find
    )
    steps = 10
    reference_events = await trained(trainer(tmp_path), task(tmp_path / "whole", tiny(), LINES, steps=steps))
    assert isinstance(reference_events[-1], TrainedWeights)
    assert [event.step for event in reference_events if isinstance(event, Checkpoint)] == list(
        range(2, steps + 1, 2)
    )

    parted = task(tmp_path / "parted", tiny(), LINES, steps=steps)
    first = await trained(local_trainer, parted, until=Checkpoint)
    assert max(losses(first)) == 2
    half = parted.folder / "checkpoints" / "checkpoint-999"
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"half")
    second: list[Any] = []
    async for event in local_trainer.train(parted, bases.Alone()):
        second.append(event)
        if isinstance(event, Checkpoint) and event.step == 6:
            launcher.processes[1].signal(signal.SIGKILL)  # as the system does when memory runs out
    assert len(launcher.processes) == 3
    assert not half.exists(), "what was not finished is not a checkpoint"
    assert isinstance(second[-1], TrainedWeights)
    assert any(isinstance(event, TrainLog) and "SIGKILL" in event.message for event in second)
    all_losses = {**losses(first), **losses(second)}  # a step done while it was closed is not reported
    assert max(all_losses) == steps
    assert all_losses == pytest.approx({step: losses(reference_events)[step] for step in all_losses})
    weights = "adapter_model.safetensors"
    assert (second[-1].path / weights).read_bytes() == (reference_events[-1].path / weights).read_bytes()
    third = await trained(local_trainer, parted)
    assert [type(event) for event in third] == [TrainedWeights], "what is done is not done again"
    assert third[-1] == second[-1]


async def test_a_job_that_nears_its_time_limit_writes_a_checkpoint_and_continues_in_another(
    tmp_path: Path,
) -> None:
    """A job near its time limit writes a checkpoint and continues in another job.

    Of two processes, only the first talks to the daemon: it has both processes' answers graded.
    """

    class Limited:
        """A launcher whose first job has no time left."""

        name = "limited"
        here = False
        starts = 0

        async def find(self, name: str) -> Launcher:
            return self

        async def launch(self, order: LaunchOrder) -> LaunchedProcess:
            process = await LOCAL.launch(order)
            process.ends_at = 0.0 if not self.starts else None
            self.starts += 1
            return process

    launcher = Limited()
    local_trainer = LocalTrainer(
        bases.Shop(), LightSandbox(), tmp_path / "logs", nice=0, find_launcher=launcher.find
    )
    prompts = [
        {"prompt": line["messages"][:1], "item": {"grade": word}}
        for line, word in zip(LINES, ("good", "bad", "good", "bad"), strict=True)
    ]
    grader = {
        "type": "string_check",
        "name": "g",
        "operation": "eq",
        "input": "{{item.grade}}",
        "reference": "good",
    }
    training_task = task(
        tmp_path / "job", tiny(), prompts, method="reinforcement", grader=grader, steps=6, processes=2
    )
    events = await trained(local_trainer, training_task)
    assert isinstance(events[-1], TrainedWeights)
    assert launcher.starts == 2
    [notice] = [event for event in events if isinstance(event, TrainLog) and "time limit" in event.message]
    assert "continues in another" in notice.message
    rewards = {event.step: event.values["reward"] for event in events if isinstance(event, Metrics)}
    assert set(rewards) == set(range(1, 7))
    assert sum(rewards.values()) == 3, "three times each prompt, and half of them are good"


async def test_early_stopping_ends_training_and_returns_the_best_checkpoint(tmp_path: Path) -> None:
    """The best checkpoint wins and waiting for a better one ends: a rate that unlearns makes the first evaluation the
    best.
    """
    training_task = task(
        tmp_path,
        tiny(),
        LINES,
        validation=LINES[:1],
        steps=20,
        eval_interval=1,
        patience=2,
        learning_rate=3.0,
        schedule="constant",
    )
    events = await trained(trainer(tmp_path), training_task)
    assert any(isinstance(event, TrainLog) and "Stopped early" in event.message for event in events)
    steps = [event.step for event in events if isinstance(event, Metrics)]
    assert max(steps) < 20
    valid = {
        event.step: event.values["valid_loss"]
        for event in events
        if isinstance(event, Metrics) and "valid_loss" in event.values
    }
    best = min(valid, key=lambda step: valid[step])
    assert isinstance(events[-1], TrainedWeights)
    best_weights = training_task.folder / "checkpoints" / f"checkpoint-{best}" / "adapter_model.safetensors"
    assert (events[-1].path / "adapter_model.safetensors").read_bytes() == best_weights.read_bytes()
    assert len([folder for folder in best_weights.parents[1].iterdir() if folder.is_dir()]) <= 2


async def test_a_loss_that_is_not_a_number_stops_training_at_that_step(tmp_path: Path) -> None:
    training_task = task(
        tmp_path, tiny(), LINES, steps=50, eval_interval=1, learning_rate=1e30, schedule="constant"
    )
    with pytest.raises(InvalidRequest, match=r"no longer a number at step \d+") as error_info:
        await trained(trainer(tmp_path), training_task)
    assert error_info.value.code == "not_a_number"
    assert "is still available" in error_info.value.message
    checkpoint_markers = sorted((training_task.folder / "checkpoints").glob("checkpoint-*/whole.json"))
    assert checkpoint_markers and all(
        math.isfinite(json.loads(path.read_bytes())["train_loss"]) for path in checkpoint_markers
    )


async def test_training_on_preference_pairs_increases_the_margin(tmp_path: Path) -> None:
    pairs = [
        {
            "prompt": line["messages"][:1],
            "chosen": line["messages"][1:],
            "rejected": [{"role": "assistant", "content": "Be brief."}],
        }
        for line in LINES
    ]
    training_task = task(
        tmp_path,
        tiny(),
        pairs,
        method="dpo",
        steps=12,
        learning_rate=1e-2,
        checkpointing=True,
        eval_interval=12,
    )
    events = await trained(trainer(tmp_path), training_task)
    margins = [event.values["margin"] for event in events if isinstance(event, Metrics)]
    assert margins[0] == pytest.approx(0, abs=1e-3)
    assert margins[-1] > 0.1
    assert isinstance(events[-1], TrainedWeights)
    assert events[-1].step == 12
    assert [event.step for event in events if isinstance(event, Checkpoint)] == [5, 12], "the first one early"
    [other_checkpoint] = events[-1].others
    assert other_checkpoint.step == 5, "of the checkpoints that were kept, the one that is not the result"
    config = json.loads((other_checkpoint.path / "adapter_config.json").read_bytes())
    assert config["base_model_name_or_path"] == "tiny", "the base by its name"


async def test_training_processes_pause_together_and_end_with_their_launcher(
    tmp_path: Path,
) -> None:
    """Several processes train one model, pause together, and end with the process that started them.

    While a model answers, all of them pause. A torchrun that is killed then leaves nothing behind.
    """
    stood: list[psutil.Process] = []

    def answering() -> bool:
        processes = _processes(training_task.folder)
        if stood or len(processes) < 3:
            return False
        if {process.status() for process in processes} == {psutil.STATUS_STOPPED}:
            stood.extend(processes)
            [torchrun] = [process for process in processes if process.ppid() == os.getpid()]
            torchrun.kill()
        return True

    training_task = task(tmp_path, tiny(), LINES, steps=4, processes=2, threads=1, micro_batch=1)
    events = await trained(trainer(tmp_path, answering=answering), training_task)
    assert len(stood) == 3
    assert not psutil.wait_procs(stood, timeout=60)[1]
    assert any(isinstance(event, TrainLog) and "SIGKILL; it continues" in event.message for event in events)
    assert isinstance(events[-1], TrainedWeights)
    assert set(losses(events)) == {1, 2, 3, 4}
    [*_others, last] = [event for event in events if isinstance(event, Checkpoint)]
    assert len(list(last.path.glob("rng_state_*.pth"))) == 2, "each process has its own"
    assert (events[-1].path / "adapter_config.json").is_file()


def _processes(folder: Path) -> list[psutil.Process]:
    """Return the living processes of the training with this folder."""
    order = str(folder / "order.json")
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if order in process.cmdline():
                processes.append(process)
    return processes


async def test_training_without_enough_disk_or_memory_is_refused_before_it_starts(tmp_path: Path) -> None:
    local_trainer = trainer(tmp_path)
    for field in ("disk_bytes", "memory_bytes"):
        training_task = task(tmp_path / field, tiny(), LINES, **{field: 10**15})
        with pytest.raises(Unavailable, match="GB"):
            await trained(local_trainer, training_task)
        assert not training_task.folder.exists()


async def test_a_base_without_a_template_is_refused(tmp_path: Path) -> None:
    base = tiny()
    bare = tmp_path / "bare"
    await asyncio.to_thread(_copy_without_template, base.path, bare)
    training_task = task(tmp_path / "job", bases.BaseModel(**{**_fields(base), "path": bare}), LINES)
    with pytest.raises(PorticoError, match="no chat template"):
        await trained(trainer(tmp_path), training_task)


def _fields(base: Any) -> dict[str, Any]:
    return {name: getattr(base, name) for name in base.__slots__}


def _copy_without_template(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        if path.is_file() and path.name != "chat_template.jinja":
            data = path.read_bytes()
            if path.name == "tokenizer_config.json":
                settings = json.loads(data)
                settings.pop("chat_template", None)
                data = json.dumps(settings).encode()
            (target / path.name).write_bytes(data)
