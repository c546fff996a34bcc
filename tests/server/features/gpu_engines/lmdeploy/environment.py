"""LMDeploy itself, if an interpreter has it: ``PORTICO_TEST_LMDEPLOY`` is its path. These tests need no GPU."""

from __future__ import annotations

import os
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest

PYTHON = os.environ.get("PORTICO_TEST_LMDEPLOY", "")

HERE = Path(__file__).parent
MAKE = HERE.parent / "transformers" / "make_models.py"

needed = pytest.mark.skipif(not PYTHON, reason="PORTICO_TEST_LMDEPLOY names no interpreter that has LMDeploy")


def interpreter(folder: Path) -> str:
    """Return the path of a ``python`` that runs LMDeploy with our tokens."""
    path = folder / "python-lmdeploy"
    path.write_text(
        f'#!/bin/sh\nexec {shlex.quote(PYTHON)} {shlex.quote(str(HERE / "launch.py"))} "$@"\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return str(path)


THINKING = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer

source, made, template = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(source)
model = AutoModelForCausalLM.from_pretrained(source)
tokenizer.add_tokens(["<think>", "</think>"])
model.resize_token_embeddings(len(tokenizer))
tokenizer.chat_template = template
tokenizer.save_pretrained(made)
model.save_pretrained(made)
"""


def thinking(source: Path, made: Path, template: str) -> Path:
    """Return the same model with tokens around its thoughts, and this chat template."""
    command = [PYTHON, "-W", "ignore", "-c", THINKING, str(source), str(made), template]
    subprocess.run(command, check=True, capture_output=True)
    return made


@cache
def models(folder: Path) -> Path:
    """Return tiny models with random weights, created with LMDeploy's own transformers: see ``make_models.py``."""
    models_folder = folder / "models"
    models_folder.mkdir(parents=True)
    subprocess.run([PYTHON, "-W", "ignore", str(MAKE), str(models_folder)], check=True, capture_output=True)
    return models_folder
