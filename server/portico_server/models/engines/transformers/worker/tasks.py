"""The tasks a model can have here. To add one: a class, and its line in `of`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .errors import UnusableModel
from .folder import ModelFolder, reranks_by
from .placement import WorkerSettings

TASKS = ("chat", "embedding", "rerank", "speech", "transcription", "image")


class WorkerTask(Protocol):
    """A loaded model with ``parameters`` numbers. ``context_length`` in tokens; ``dimensions`` 0 for one that gives no
    vectors; ``sees`` says whether it takes images.
    """

    context_length: int
    dimensions: int
    parameters: int
    sees: bool

    def routes(self) -> Mapping[str, Any]:
        """Its doors: a path to a `portico_server.models.engines.transformers.worker.server.Handler`."""


def make_task(task: str, folder: ModelFolder, settings: WorkerSettings) -> WorkerTask:
    """Load the model for a task. Raises `UnusableModel`. What a task needs is imported with it alone."""
    if task == "embedding":
        from .embed import EmbeddingTask

        return EmbeddingTask(folder, settings)
    if task == "rerank":
        by = reranks_by(folder.path, folder.config)
        if by == "tokens":
            from .rerank import LateInteractionTask

            return LateInteractionTask(folder, settings)
        # Many embedding models were made of masked language models and name those: one that ranks says so by its task.
        if by == "words" or (not by and folder.architecture.endswith("ForMaskedLM")):
            from .rerank import SparseTask

            return SparseTask(folder, settings)
        from .rerank import CrossEncoderTask

        return CrossEncoderTask(folder, settings)
    if task == "chat":
        from .chat import ChatTask

        return ChatTask(folder, settings)
    if task == "speech" and folder.architecture.startswith("Musicgen"):
        from .speak import MusicTask

        return MusicTask(folder, settings)
    if task == "speech":
        from .speak import SpeechTask

        return SpeechTask(folder, settings)
    if task == "transcription" and folder.architecture.endswith("ForCTC"):
        from .transcribe import CtcTask

        return CtcTask(folder, settings)
    if task == "transcription":
        from .transcribe import WhisperTask

        return WhisperTask(folder, settings)
    if task == "image":
        from .draw import ImageTask

        return ImageTask(folder, settings)
    raise UnusableModel(f"There is no task '{task}'; there are {', '.join(TASKS)}.")
