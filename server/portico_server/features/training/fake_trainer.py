"""Training for models on the fake engine, so that applications can be tested without a real model."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.features.training.training_events import (
    Checkpoint,
    Metrics,
    TrainedWeights,
    TrainEvent,
    TrainingTask,
    TrainLog,
)

MAX_LEARNT_EXAMPLES: Final = 500
"""Maximum number of examples that the trained model can answer."""

_STATE: Final = "state.json"


class FakeTrainer:
    """A `portico_server.features.training.training_events.Trainer` whose steps take only as long as recording them."""

    async def train(self, task: TrainingTask, _context: Context) -> AsyncGenerator[TrainEvent, None]:
        """Simulate training. See `portico_server.features.training.training_events.Trainer`."""
        recipe, total = task.recipe, task.recipe.steps
        place = task.folder / "checkpoints"
        done_steps = await pools.TRAINING.run(_last, place)
        if done_steps:
            yield TrainLog("info", f"Continuing from the checkpoint of step {done_steps}")
        yield TrainLog("info", f"{total} steps", {"stage": "training"})
        start_time = time.monotonic()
        for step in range(done_steps + 1, total + 1):
            await asyncio.sleep(0)  # let other tasks run, even if the step writes nothing
            elapsed_s = max(time.monotonic() - start_time, 1e-6)
            tokens = task.data.facts.tokens / max(task.data.facts.examples, 1) * recipe.batch
            values = {
                "train_accuracy": step / (step + 2.0),
                "learning_rate": recipe.learning_rate * (1 - step / total),
                "tokens_per_second": tokens * (step - done_steps) / elapsed_s,
            }
            if task.data.validation is not None and step % recipe.eval_interval == 0:
                values["valid_loss"] = 2.5 / (step + 1) ** 0.5
            yield Metrics(step, total, 2.0 / (step + 1) ** 0.5, values)
            if (recipe.eval_interval and step % recipe.eval_interval == 0) or step == total:
                # Not in a thread, because the thread could continue after a cancellation, when the folder has
                # already been deleted.
                yield Checkpoint(step, _keep(place, step), values)
        path = task.folder / "script.yaml"
        await pools.TRAINING.run(_write, path, task.data.training)
        yield TrainedWeights(path, task.data.facts.tokens * recipe.epochs, step=recipe.steps)


def _last(place: Path) -> int:
    state = place / _STATE
    return int(orjson.loads(state.read_bytes())["step"]) if state.is_file() else 0


def _keep(place: Path, step: int) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    new = place / f"{_STATE}.new"
    new.write_bytes(orjson.dumps({"step": step}))
    new.replace(place / _STATE)
    return place


def _write(path: Path, training: Path) -> None:
    rules = []
    for document in _documents(training):
        question, reply = _exchange(document)
        if question and reply:
            rules.append({"match": f"^{re.escape(question)}$", "content": [reply.replace("\\", "\\\\")]})
    path.write_bytes(orjson.dumps({"replies": rules}))  # JSON is YAML


def _documents(training: Path) -> Iterator[Mapping[str, Any]]:
    with training.open("rb") as file:
        for _number, line in zip(range(MAX_LEARNT_EXAMPLES), file, strict=False):
            yield orjson.loads(line)


def _exchange(document: Mapping[str, Any]) -> tuple[str, str]:
    """Return the last question of an example, and the answer to it."""
    messages = document.get("messages") or [*document["prompt"], *document.get("chosen", ())]
    question = [str(message["content"]) for message in messages if message["role"] == "user"]
    reply = [str(message["content"]) for message in messages if message["role"] == "assistant"]
    return (question or [""])[-1], (reply or [""])[-1]
