"""SGLang's server as far as the daemon sees it: its arguments, its key, its dialect, its errors (SGLang 0.5.23).

Its behaviour was taken from SGLang itself: ``srt/entrypoints/openai``, ``srt/utils/auth.py`` and
``srt/arg_groups/fields``.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import orjson
import standin
from aiohttp import web

KINDS = {400: "BadRequest", 401: "Unauthorized", 500: "InternalServerError"}


def refuse(status: int, message: str) -> web.Response:
    """Return an error with its fields at the top level and a number as its code."""
    kind = KINDS.get(status, str(status))
    body = {"object": "error", "message": message, "type": kind, "param": None, "code": status}
    return web.json_response(body, status=status)


def broken(message: str) -> web.Response:
    return refuse(500, f"Internal server error: {message}")


async def check(request: web.Request) -> web.Response | None:
    body: dict[str, Any] = await request.json()
    tools = body.get("tools")
    choice = body.get("tool_choice", "auto")
    if choice == "required" and not tools:
        return refuse(400, "Tools cannot be empty if tool choice is set to required.")
    if isinstance(choice, dict):
        name = choice["function"]["name"]
        if name not in [tool["function"]["name"] for tool in tools or ()]:
            return refuse(400, f"Tool '{name}' not found in tools list.")
    if tools and choice != "none" and not given.tool_call_parser:
        # The server would write its calls as text, in a format that nobody reads.
        return refuse(500, "the daemon sends no tools to a server without --tool-call-parser")
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit and given.context_length and limit > given.context_length:
        return refuse(
            400,
            f"max_completion_tokens is too large: {limit}."
            f"This model supports at most {given.context_length} completion tokens.",
        )
    response_format = body.get("response_format") or {}
    if response_format.get("type") == "json_schema" and response_format["json_schema"].get("schema") is None:
        return refuse(400, "schema_ is required for json_schema response format request.")
    return None


class SglLoras(standin.Loras):
    """Adapters that are requested as ``MODEL:ADAPTER``."""

    def __init__(self, model: str, pairs: list[str]) -> None:
        super().__init__()
        for pair in pairs:
            name, _, path = pair.partition("=")
            self.load(f"{model}:{name}", path)


parser = argparse.ArgumentParser(allow_abbrev=True)  # as SGLang's own parser is
parser.add_argument("--model-path", "--model", required=True)
parser.add_argument("--served-model-name")
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=30000)
parser.add_argument("--api-key")
parser.add_argument("--context-length", type=int, default=2048)
parser.add_argument("--tp-size", "--tensor-parallel-size", type=int, default=1)
parser.add_argument("--pp-size", "--pipeline-parallel-size", type=int, default=1)
parser.add_argument("--dp-size", "--data-parallel-size", type=int, default=1)
parser.add_argument(
    "--dtype", choices=("auto", "half", "float16", "bfloat16", "float", "float32"), default="auto"
)
parser.add_argument("--quantization")
parser.add_argument(
    "--kv-cache-dtype",
    choices=("auto", "fp8_e5m2", "fp8_e4m3", "mxfp8", "bf16", "bfloat16", "nvfp4", "fp4_mx_block16"),
    default="auto",
)
parser.add_argument("--mem-fraction-static", type=float)
parser.add_argument("--max-running-requests", type=int)
parser.add_argument("--chunked-prefill-size", type=int)
parser.add_argument("--schedule-policy", default="fcfs")
parser.add_argument("--chat-template")
parser.add_argument("--tool-call-parser")
parser.add_argument("--reasoning-parser")
parser.add_argument("--trust-remote-code", action="store_true")
parser.add_argument("--enable-cache-report", action="store_true")
parser.add_argument("--max-loras-per-batch", type=int, default=8)
parser.add_argument("--lora-paths", nargs="*", default=[])
parser.add_argument("--random-seed", type=int)
given = parser.parse_args()


def locked() -> web.Response:
    return web.Response(
        status=401, body=orjson.dumps({"error": "Unauthorized"}), content_type="application/json"
    )


def main() -> None:
    assert given.host == "127.0.0.1" and os.path.isdir(given.model_path) and given.api_key
    standin.serve(
        loras=SglLoras(given.served_model_name, given.lora_paths),
        port=given.port,
        key=given.api_key,
        model=given.served_model_name,
        length=given.context_length,
        refuse=refuse,
        check=check,
        dialect=standin.Dialect(
            too_long="The input ({tokens} tokens) is longer than the model's context length ({length} tokens).",
            locked=locked,
            broken=broken,
        ),
    )


main()
