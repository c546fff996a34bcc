"""vLLM's server as far as the daemon sees it: its arguments, its key, its health, its errors."""

from __future__ import annotations

import argparse
import os

import standin
from aiohttp import web


def refuse(status: int, message: str) -> web.Response:
    kind = {400: "BadRequestError", 404: "NotFoundError"}[status]
    error = {"message": message, "type": kind, "param": None, "code": status}
    return web.json_response({"error": error}, status=status)


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.9)
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float16", "float32"), default="auto")
    parser.add_argument("--enable-auto-tool-choice", action="store_true")
    parser.add_argument("--enable-prompt-tokens-details", action="store_true")
    parser.add_argument("--tool-call-parser")
    parser.add_argument("--runner", choices=("auto", "generate", "pooling"), default="auto")
    given = parser.parse_args()
    assert given.host == "127.0.0.1" and os.path.isdir(given.model)

    async def check(request: web.Request) -> web.Response | None:
        body = await request.json()
        if (
            body.get("tools")
            and body.get("tool_choice", "auto") == "auto"
            and not given.enable_auto_tool_choice
        ):
            return refuse(
                400,
                '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
            )
        return None

    standin.serve(
        port=given.port,
        key=os.environ["VLLM_API_KEY"],
        model=given.served_model_name,
        length=given.max_model_len,
        refuse=refuse,
        check=check,
    )


main()
