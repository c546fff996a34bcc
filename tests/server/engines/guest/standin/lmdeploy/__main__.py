"""LMDeploy's server as far as the daemon sees it: its arguments, its key, its health, its errors."""

from __future__ import annotations

import argparse
import os

import standin
from aiohttp import web


def refuse(status: int, message: str) -> web.Response:
    body = {"object": "error", "message": message, "type": "invalid_request_error", "code": status}
    return web.json_response(body, status=status)


async def check(request: web.Request) -> web.Response | None:
    if "max_completion_tokens" in await request.json():
        return refuse(400, "unknown field max_completion_tokens")
    return None


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("serve", choices=("serve",))
    parser.add_argument("api_server", choices=("api_server",))
    parser.add_argument("model_path")
    parser.add_argument("--model-name", required=True)
    parser.add_argument("--server-name", required=True)
    parser.add_argument("--server-port", type=int, required=True)
    parser.add_argument("--api-keys", nargs="+", required=True)
    parser.add_argument("--session-len", type=int, default=2048)
    parser.add_argument("--tp", type=int, default=1)
    parser.add_argument("--cache-max-entry-count", type=float, default=0.8)
    parser.add_argument("--backend", choices=("turbomind", "pytorch"), default="turbomind")
    parser.add_argument("--adapters", nargs="*", default=[])
    given = parser.parse_args()
    assert given.server_name == "127.0.0.1" and os.path.isdir(given.model_path)
    assert given.backend == "pytorch" or not given.adapters
    loras = standin.Loras()
    for pair in given.adapters:
        loras.load(*pair.split("=", 1))
    standin.serve(
        loras=loras,
        port=given.server_port,
        key=given.api_keys[0],
        model=given.model_name,
        length=given.session_len,
        refuse=refuse,
        check=check,
    )


main()
