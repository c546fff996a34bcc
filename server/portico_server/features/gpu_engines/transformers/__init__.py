"""The engine `transformers`: folders with safetensors that no other engine on this machine supports, on CPU or GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Final

WORKER_PATH: Final = Path(__file__).parent
"""The folder of the worker's package."""

WORKER = "worker"
"""The worker's package, and the only package on the path of an interpreter without the daemon's packages."""
