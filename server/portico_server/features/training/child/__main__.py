"""``python -m child ORDER``: trains according to an order file, and reports an error in one sentence."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import traceback
from pathlib import Path

from . import checkpoints
from .daemon import DaemonLink, TrainingOrder, end_with_starter

MIN_FREE_BYTES = 64 * 1024 * 1024
"""Free bytes below which a disk counts as full."""


def main() -> None:
    """Train according to the order file."""
    end_with_starter()
    order = TrainingOrder.read(Path(sys.argv[1]))
    voice = DaemonLink(first=os.environ.get("RANK", "0") == "0")
    os.nice(min(max(order.nice, 0), 19))
    # These imports take seconds; the link to the daemon is open before they start.
    # Imported modules stay in memory. Scanning them for garbage repeatedly would take a sixth of that time.
    gc.disable()
    import torch

    from .run import run
    from .watch import DiskFull, NotANumber

    gc.freeze()
    gc.enable()
    try:
        run(order, voice)
    except NotANumber as error:
        _fail(
            voice,
            "not_a_number",
            f"The loss was no longer a number at step {error.step}. {_last_checkpoint(order)} A lower "
            "learning rate, or float32 instead of 16 bits, usually helps; checking the examples does too.",
        )
    except (DiskFull, OSError, RuntimeError, ValueError) as error:
        traceback.print_exc()
        words = " ".join(str(error).split())[:500]
        if isinstance(error, DiskFull) or shutil.disk_usage(order.folder).free < MIN_FREE_BYTES:
            _fail(voice, "disk_full", f"The disk of {order.folder} is full. {_last_checkpoint(order)}")
        elif isinstance(error, torch.OutOfMemoryError):
            _fail(
                voice,
                "out_of_memory",
                f"The GPU has too little memory: {words}. {_last_checkpoint(order)}",
            )
        else:
            _fail(voice, "training_failed", f"Training failed: {words}. {_last_checkpoint(order)}")


def _last_checkpoint(order: TrainingOrder) -> str:
    last = checkpoints.last_checkpoint(order.checkpoints)
    if last is None:
        return "No checkpoint exists yet."
    return f"The checkpoint of step {checkpoints.step_of(last)} is still available."


def _fail(voice: DaemonLink, code: str, message: str) -> None:
    voice.send("error", code=code, message=message)
    raise SystemExit(3)


if __name__ == "__main__":
    main()
