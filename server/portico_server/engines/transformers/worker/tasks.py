"""The tasks a model can have here. To add one: a class, and its line in `of`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .folder import Folder
from .refusal import Unfit
from .settings import Settings

TASKS = ("chat", "embedding", "rerank", "speech", "transcription", "image")


class Task(Protocol):
    """A loaded model with ``parameters`` numbers. ``context_length`` in tokens; ``dimensions`` 0 for one that gives no
    vectors; ``sees`` says whether it takes images.
    """

    context_length: int
    dimensions: int
    parameters: int
    sees: bool

    def posts(self) -> Mapping[str, Any]:
        """Its doors: a path to a `portico_server.engines.transformers.worker.door.Handler`."""


def of(task: str, folder: Folder, settings: Settings) -> Task:
    """Load the model for a task. Raises `Unfit`. What a task needs is imported with it alone."""
    if task == "embedding":
        from .embed import Embedder

        return Embedder(folder, settings)
    if task == "rerank":
        from .rank import Ranker

        return Ranker(folder, settings)
    if task == "chat":
        from .chat import Chat

        return Chat(folder, settings)
    if task == "speech" and folder.architecture.startswith("Musicgen"):
        from .music import Composer

        return Composer(folder, settings)
    if task == "speech":
        from .speak import Speaker

        return Speaker(folder, settings)
    if task == "transcription" and folder.architecture.endswith("ForCTC"):
        from .ctc import Ctc

        return Ctc(folder, settings)
    if task == "transcription":
        from .transcribe import Whisper

        return Whisper(folder, settings)
    if task == "image":
        from .draw import Painter

        return Painter(folder, settings)
    raise Unfit(f"There is no task '{task}'; there are {', '.join(TASKS)}.")
