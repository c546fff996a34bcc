"""Command line of the worker: ``python -m worker serve …`` runs a model's process."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
from pathlib import Path

from .errors import UnusableModel
from .folder import read_folder
from .placement import WorkerSettings

KEY_VARIABLE = "WORKER_KEY"
"""Environment variable with the key, because every user can see a command line."""

PARENT_CHECK_INTERVAL_S = 2.0
"""Seconds between checks that the parent process is still running."""


def main() -> None:
    """Run the command; if a model cannot be loaded, exit with a one-sentence message."""
    options = _arguments().parse_args()
    try:
        serve(options)
    except UnusableModel as error:
        print(error, file=sys.stderr, flush=True)
        raise SystemExit(3) from None


def serve(options: argparse.Namespace) -> None:
    """Load the model, then listen until the process ends."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True, name="lifeline").start()
    folder = read_folder(options.model)
    settings = WorkerSettings(
        options.name,
        device=options.device,
        dtype=options.dtype,
        context_length=options.context_length,
        threads=options.threads,
        pooling=options.pooling,
        chat_template=options.chat_template,
        queue=options.queue,
        max_seconds=options.max_seconds,
        max_pixels=options.max_pixels,
    )
    # These imports take seconds. A problem with the folder has been reported before.
    # The modules and the model stay in memory. Scanning them for garbage would take a fifth of the start.
    gc.disable()
    _quiet()
    from .server import WorkerServer
    from .tasks import make_task

    task = make_task(folder.task if options.task == "auto" else options.task, folder, settings)
    gc.freeze()
    gc.enable()
    facts = {"id": settings.name, "object": "model", "max_model_len": task.context_length}
    server = WorkerServer(
        (options.host, options.port),
        os.environ.pop(KEY_VARIABLE, ""),
        task.routes(),
        {
            "/v1/models": lambda: {"object": "list", "data": [facts]},
            "/props": lambda: {
                "default_generation_settings": {"n_ctx": task.context_length},
                "dimensions": task.dimensions,
                "parameters": task.parameters,
                "modalities": {"vision": task.sees},
                "edits": getattr(task, "edits", False),
                "voices": getattr(task, "voices", ()),
            },
        },
    )
    server.serve_forever()


def _quiet() -> None:
    """Turn off progress bars and advice in the log."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _watch(parent: int) -> None:
    """Exit when the parent process ends, for whatever reason."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(PARENT_CHECK_INTERVAL_S)
    os._exit(0)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="worker", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve")
    serving.add_argument("--model", type=Path, required=True)
    serving.add_argument("--name", required=True)
    serving.add_argument("--host", default="127.0.0.1")
    serving.add_argument("--port", type=int, required=True)
    serving.add_argument("--task", default="auto")
    serving.add_argument("--device", default="auto")
    serving.add_argument("--dtype", choices=("auto", "float32", "float16", "bfloat16"), default="auto")
    serving.add_argument("--context-length", type=int, default=0)
    serving.add_argument("--threads", type=int, default=0)
    serving.add_argument("--pooling", choices=("", "mean", "cls", "last", "max"), default="")
    serving.add_argument("--chat-template", type=Path)
    serving.add_argument("--queue", type=int, default=256)
    serving.add_argument("--max-seconds", type=float, default=0.0)
    serving.add_argument("--max-pixels", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
