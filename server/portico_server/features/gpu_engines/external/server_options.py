"""Converts parameters of a model to command line options of a server. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest

Kind: TypeAlias = Literal["whole", "number", "share", "text", "flag", "path", "template"]


@dataclass(frozen=True, slots=True)
class ServerOption:
    """An option of a server. ``flag`` is its name on the command line. An option of the kind ``flag`` has no value.

    The value of a ``share`` is in (0, 1].
    """

    flag: str
    kind: Kind
    doc: str


ServerOptions: TypeAlias = Mapping[str, ServerOption]

TEMPLATE_SUFFIXES = (".jinja", ".jinja2", ".j2", ".json")
"""Suffixes of chat template files. Other files are not passed to the server, which would reveal their contents."""

FREE_ARGUMENTS = frozenset(
    {
        "--all2all-backend",
        "--async-scheduling",
        "--attention-backend",
        "--block-size",
        "--cache-block-seq-len",
        "--chunked-prefill-size",
        "--communicator",
        "--cp",
        "--cpu-offload-gb",
        "--cudagraph-capture-sizes",
        "--disable-custom-all-reduce",
        "--disable-log-stats",
        "--enable-chunked-prefill",
        "--enable-expert-parallel",
        "--enable-metrics",
        "--ep",
        "--kv-cache-memory-bytes",
        "--kv-offloading-size",
        "--limit-mm-per-prompt",
        "--log-level",
        "--long-prefill-token-threshold",
        "--max-concurrent-requests",
        "--max-log-len",
        "--max-logprobs",
        "--max-prefill-iters",
        "--max-prefill-token-num",
        "--mm-processor-cache-gb",
        "--mm-processor-kwargs",
        "--no-enable-chunked-prefill",
        "--no-enable-prefix-caching",
        "--num-gpu-blocks-override",
        "--num-tokens-per-iter",
        "--optimization-level",
        "--override-generation-config",
        "--performance-mode",
        "--rope-scaling-factor",
        "--schedule-policy",
        "--scheduling-policy",
        "--speculative-algorithm",
        "--speculative-num-draft-tokens",
        "--structured-outputs-config",
        "--tool-strict-level",
        "--vision-max-batch-size",
    }
)
"""Options of servers that are allowed in the parameter ``arguments``, because they only change how a model is
computed. Other options might open a port, write or read a file, or load code.
"""

COMMON_OPTIONS: ServerOptions = {
    "python": ServerOption(
        "", "path", "an interpreter with the engine installed, instead of the environment"
    ),
    "arguments": ServerOption("", "text", "additional command line arguments of the server, a list of texts"),
    "fallback": ServerOption("", "text", "names of models to call if this one fails"),
}
"""Parameters that all engines with a separate server have, in addition to their own parameters."""


def advice(message: str, options: ServerOptions) -> str:
    """Return a sentence with the parameters for the flags that a message of the server mentions, or "" if it mentions
    none.
    """
    sentences = [
        f"'{option.flag}' is the parameter '{key}'"
        for key, option in options.items()
        if re.search(rf"(?<![\w-]){re.escape(option.flag)}(?![\w-])", message)
    ]
    return f"Here {', '.join(sentences)}." if sentences else ""


def option_arguments(
    name: str, engine: str, parameters: Mapping[str, Any], options: ServerOptions
) -> list[str]:
    """Return the command line options for ``parameters``, in the order of ``options``.

    Raises `InvalidRequest` that names the invalid parameter.
    """
    server_options = {**options, **COMMON_OPTIONS}
    for key in parameters:
        if key not in server_options:
            raise InvalidRequest(
                f"The engine '{engine}' has no parameter '{key}'.{nearest(key, server_options)} Valid "
                f"parameters are {', '.join(server_options)}.",
                param=f"parameters.{key}",
            )
    line: list[str] = []
    for key, option in options.items():
        value = parameters.get(key)
        if value is None or value is False:
            continue
        if not _fits(value, option.kind):
            raise InvalidRequest(
                f"The parameter '{key}' of '{name}' must be {_WORDS[option.kind]}, not {value!r}.",
                param=f"parameters.{key}",
            )
        line += [option.flag] if option.kind == "flag" else [option.flag, str(value)]
    extra_arguments = parameters.get("arguments") or []
    if not isinstance(extra_arguments, list | tuple) or not all(
        isinstance(part, str) for part in extra_arguments
    ):
        raise InvalidRequest(
            f"The parameter 'arguments' of '{name}' must be a list of texts.", param="parameters.arguments"
        )
    for part in extra_arguments:
        flag = part.partition("=")[0]
        if part.startswith("-") and not _is_number(part) and flag not in FREE_ARGUMENTS:
            raise InvalidRequest(
                f"The parameter 'arguments' of '{name}' contains {flag}, which is not one of the allowed "
                f"options: {', '.join(sorted(FREE_ARGUMENTS))}.{nearest(flag, FREE_ARGUMENTS)} To use other "
                "options, start the server yourself and add it as http://HOST/v1#MODEL.",
                code="argument_refused",
                param="parameters.arguments",
            )
    return [*line, *extra_arguments]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_WORDS: Mapping[Kind, str] = {
    "whole": "an integer of at least 1",
    "number": "a number of at least 0",
    "share": "a number above 0 and at most 1",
    "text": "a text",
    "flag": "true or false",
    "path": "a path",
    "template": f"the path of a template that ends in {', '.join(TEMPLATE_SUFFIXES)}",
}


def _fits(value: Any, kind: Kind) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "whole":
            return number and isinstance(value, int) and value >= 1
        case "number":
            return number and value >= 0
        case "share":
            return number and 0 < value <= 1
        case "flag":
            return value is True
    if kind == "template" and not str(value).endswith(TEMPLATE_SUFFIXES):
        return False
    # A value that begins with a dash could be mistaken for another option.
    return isinstance(value, str) and bool(value) and not value.startswith("-")
