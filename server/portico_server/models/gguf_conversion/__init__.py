"""The program that converts GGUF files, and runs in the training environment."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CONVERTER_PATH: Final = Path(__file__).parent
"""The folder of the converter's package."""

CONVERTER: Final = "converter"
"""The converter's package, and the only package on the path of an interpreter without the daemon's packages."""
