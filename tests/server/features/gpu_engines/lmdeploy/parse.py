"""Reads command lines with LMDeploy's own parser, and runs in its environment.

Takes a JSON list of command lines on standard input. Prints an object: ``read`` has, for each, the settings that
LMDeploy would use or its final error; ``choices`` has the accepted values by option.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any

from lmdeploy.cli import entrypoint
from lmdeploy.cli.utils import get_chat_template, get_lora_adapters
from lmdeploy.serve.parsers import validate_parser_names


def _read(line: list[str]) -> dict[str, Any] | str:
    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words):
            options = vars(entrypoint.CLI.parser.parse_args(line))
        adapters = get_lora_adapters(options["adapters"])
        template = get_chat_template(options["chat_template"], options["model_path"])
        validate_parser_names(options["reasoning_parser"], options["tool_call_parser"])
    except (SystemExit, AssertionError, ValueError) as error:
        return words.getvalue() or str(error)
    del options["run"]
    return {**options, "adapters": adapters, "chat_template": template and template.model_name}


def main() -> None:
    entrypoint.CLI.add_parsers()
    entrypoint.SubCliServe.add_parsers()
    server = entrypoint.SubCliServe.subparsers.choices["api_server"]
    choices = {
        action.option_strings[0]: action.choices
        for action in server._actions
        if action.option_strings and action.choices
    }
    lines: list[list[str]] = json.load(sys.stdin)
    print(json.dumps({"read": [_read(line) for line in lines], "choices": choices}))


if __name__ == "__main__":
    main()
