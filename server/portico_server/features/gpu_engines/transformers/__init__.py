"""The engine `transformers`: folders with safetensors that no other engine on this machine supports, on CPU or GPU."""

from __future__ import annotations

from typing import Final

WORKER: Final = "worker"
"""The worker's package, and the only package on the path of an interpreter without the daemon's packages."""
