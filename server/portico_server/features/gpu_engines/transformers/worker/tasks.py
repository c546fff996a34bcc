"""The worker's tasks. To add a task, write a class and add its line in `make_task`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .errors import UnusableModel
from .folder import ModelFolder, reranks_by
from .placement import WorkerSettings

TASKS = ("chat", "embedding", "rerank", "speech", "transcription", "image")


class WorkerTask(Protocol):
    """A task with its loaded model. ``parameters`` is the number of the model's parameters.

    ``context_length`` is in tokens; ``dimensions`` is 0 for a model without vectors; ``sees`` is whether the model
    accepts images.
    """

    context_length: int
    dimensions: int
    parameters: int
    sees: bool

    def routes(self) -> Mapping[str, Any]:
        """Return the task's routes: a `portico_server.features.gpu_engines.transformers.worker.server.Handler` for each
        path.
        """


def make_task(task: str, folder: ModelFolder, settings: WorkerSettings) -> WorkerTask:
    """Load the model for a task, and import only what the task needs. Raise `UnusableModel`."""
    if task == "embedding":
        from .embed import EmbeddingTask

        return EmbeddingTask(folder, settings)
    if task == "rerank":
        by = reranks_by(folder.path, folder.config)
        if by == "tokens":
            from .rerank import LateInteractionTask

            return LateInteractionTask(folder, settings)
        # Many embedding models derive from masked language models and name a ForMaskedLM class too. The class
        # means sparse vectors only because the task is already known to be `rerank`.
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
    raise UnusableModel(f"The task '{task}' does not exist; valid tasks: {', '.join(TASKS)}.")
