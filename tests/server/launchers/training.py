"""A short training of a tiny model, started by the configured launcher."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.server.features.training.child import bases

from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.training.local_trainer import LocalTrainer
from portico_server.features.training.training_events import TrainEvent
from portico_server.launchers.launchers import Launchers
from portico_server.settings import load

EXAMPLES: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "yes"}], "tools": []}
    for n in range(24)
]

PROMPTS = [{"prompt": example["messages"][:1], "item": {"grade": "good"}} for example in EXAMPLES]

GRADER = {
    "type": "string_check",
    "name": "g",
    "operation": "eq",
    "input": "{{item.grade}}",
    "reference": "good",
}

STEPS = 12


async def training(
    folder: Path, *, nodes: int = 1, graded: bool = False, **settings: str
) -> AsyncIterator[TrainEvent]:
    """Yield the events of a training; its jobs are in ``folder/home``. Several ``nodes`` have one process each.

    A ``graded`` training waits at each step for its grades, which come only when the next event is read.
    """
    launchers = Launchers(load({"home": str(folder / "home"), **settings}, {}).settings)
    trainer = LocalTrainer(bases.Shop(), LightSandbox(), folder / "logs", nice=0, find_launcher=launchers.get)
    spread = {"nodes": nodes, "processes": nodes}
    method_options: dict[str, Any] = {"method": "reinforcement", "grader": GRADER} if graded else {}
    examples = PROMPTS if graded else EXAMPLES
    task = bases.task(
        folder / "job", bases.tiny(), examples, steps=STEPS, eval_interval=3, **method_options, **spread
    )
    if nodes > 1:
        spec = replace(task.job.spec, resources={"nodes": nodes, "cpus": 1})
        task = replace(task, job=replace(task.job, spec=spec))
    try:
        async for event in trainer.train(task, bases.Alone()):
            yield event
    finally:
        await launchers.close()
