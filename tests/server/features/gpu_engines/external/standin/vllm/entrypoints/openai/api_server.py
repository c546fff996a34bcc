"""vLLM's server as far as the daemon sees it: its arguments, its key, its health, its errors."""

from __future__ import annotations

import argparse
import os

import standin
from aiohttp import web


def refuse(status: int, message: str, kind: str | None = None) -> web.Response:
    kind = {400: "BadRequestError", 404: "NotFoundError"}[status] if kind is None else kind
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
    parser.add_argument("--pipeline-parallel-size", type=int, default=1)
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.9)
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float16", "float32"), default="auto")
    parser.add_argument("--enable-auto-tool-choice", action="store_true")
    parser.add_argument("--enable-prompt-tokens-details", action="store_true")
    parser.add_argument("--tool-call-parser")
    parser.add_argument("--reasoning-parser")
    parser.add_argument("--runner", choices=("auto", "generate", "pooling"), default="auto")
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument(
        "--max-lora-rank", type=int, choices=(1, 8, 16, 32, 64, 128, 256, 320, 512), default=16
    )
    parser.add_argument("--max-loras", type=int, default=1)
    arguments = parser.parse_args()
    assert arguments.host == "127.0.0.1" and os.path.isdir(arguments.model)

    async def check(request: web.Request) -> web.Response | None:
        body = await request.json()
        if (
            body.get("tools")
            and body.get("tool_choice", "auto") == "auto"
            and not arguments.enable_auto_tool_choice
        ):
            return refuse(
                400,
                '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
            )
        choice = body.get("tool_choice")
        if choice not in (None, "none", "auto") and not arguments.tool_call_parser:
            choice_text = (
                f'function "{choice["function"]["name"]}"' if isinstance(choice, dict) else f'"{choice}"'
            )
            return refuse(400, f"tool_choice={choice_text} requires --tool-call-parser to be set")
        return None

    loras = standin.Loras()

    async def load_lora(request: web.Request) -> web.Response:
        body = await request.json()
        name, path = body["lora_name"], body["lora_path"]
        if name in loras.servers:
            return refuse(400, f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput")
        try:
            rank = loras.load(name, path)
        except OSError:
            return refuse(404, f"No adapter found for {path}", "NotFoundError")
        if rank > arguments.max_lora_rank:
            del loras.servers[name]
            return refuse(400, f"LoRA rank {rank} is greater than max_lora_rank {arguments.max_lora_rank}.")
        print(f"loaded {name}", flush=True)
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def unload_lora(request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if loras.servers.pop(name, None) is None:
            return refuse(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        print(f"unloaded {name}", flush=True)
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    hot = arguments.enable_lora and os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "True"
    standin.serve(
        loras=loras,
        routes={"/v1/load_lora_adapter": load_lora, "/v1/unload_lora_adapter": unload_lora} if hot else {},
        port=arguments.port,
        key=os.environ["VLLM_API_KEY"],
        model=arguments.served_model_name,
        length=arguments.max_model_len,
        refuse=refuse,
        check=check,
    )


main()
