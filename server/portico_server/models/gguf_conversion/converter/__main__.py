"""Command line of the converter: ``python -m converter dequantise GGUF OUT`` converts a GGUF file into a folder.

``… fold GGUF ADAPTER OUT`` writes a GGUF file with the adapter merged in. ``… refit GGUF FOLDER OUT`` writes a GGUF
file with the weights from the folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .errors import ConversionFailed


def main() -> None:
    """Run the command; if a file cannot be converted, exit with a one-sentence message."""
    options = _arguments().parse_args()
    try:
        if options.command == "dequantise":
            _quiet()
            from .unpack import unpack

            unpack(options.gguf, options.out)
        elif options.command == "fold":
            from .export import fold_adapter

            fold_adapter(options.gguf, options.adapter, options.out, options.type, options.scale)
        else:
            from .export import refit

            refit(options.gguf, options.folder, options.out, options.type)
    except ConversionFailed as error:
        print(error, file=sys.stderr, flush=True)
        raise SystemExit(3) from None


def _quiet() -> None:
    """Turn off progress bars and advice in the log."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="converter", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    unpacking = commands.add_parser("dequantise")
    unpacking.add_argument("gguf", type=Path)
    unpacking.add_argument("out", type=Path)
    merging = commands.add_parser("fold")
    merging.add_argument("gguf", type=Path)
    merging.add_argument("adapter", type=Path)
    merging.add_argument("out", type=Path)
    merging.add_argument("--type", required=True)
    merging.add_argument("--scale", type=float, default=1.0)
    refitting = commands.add_parser("refit")
    refitting.add_argument("gguf", type=Path)
    refitting.add_argument("folder", type=Path)
    refitting.add_argument("out", type=Path)
    refitting.add_argument("--type", required=True)
    return parser


if __name__ == "__main__":
    main()
