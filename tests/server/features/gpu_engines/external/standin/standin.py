"""Shared by the stand-ins: a scripted model behind another server's own endpoints, errors and waits.

Runs as the engine's process. ``STANDIN_SCRIPT`` is the script, and ``STANDIN_STORY`` adds an event: ``refuse`` (ends
before it listens), ``deaf`` (listens and is never ready), ``lost`` and ``full`` (the first chat loses the GPU, or
finds no memory on it), ``orphan`` (has a child that ignores SIGTERM).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from portico_server.core.errors import PorticoError
from portico_server.models.engines.fake.script import load_script
from portico_server.models.engines.fake.worker import FakeServer
from portico_server.models.engines.worker_http import MAX_BODY_BYTES

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Refusal = Callable[[int, str], web.Response]

STORY = os.environ.get("STANDIN_STORY", "")


REFUSAL = """
(VllmWorker-0) ERROR [executor.py:953] ValueError: Available memory is too small. Decrease `--gpu-memory-utilization`.
Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for cause.
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
"""vLLM's output: the reason is far from the end."""

TROUBLE = {
    "lost": "EngineCore encountered an issue. CUDA error: an illegal memory access was encountered",
    "full": "CUDA out of memory. Tried to allocate 2.00 GiB.",
}


def _broken(message: str) -> web.Response:
    failure = {"message": message, "type": "InternalServerError", "param": None, "code": 500}
    return web.json_response({"error": failure}, status=500)


@dataclass(frozen=True)
class Dialect:
    """Differences from vLLM: whether it reports a call's maximum length, its wording of two refusals, and its
    failure.
    """

    tells_length: bool = True
    too_long: str = (
        "This model's maximum context length is {length} tokens. However, your request has {tokens} input tokens. "
        "Please reduce the length of the input messages."
    )
    locked: Callable[[], web.Response] = lambda: web.json_response({"error": "Unauthorized"}, status=401)
    broken: Callable[[str], web.Response] = _broken


class Loras:
    """Adapters by name. Each answers with its name and the multiplier of its effect."""

    def __init__(self, server: type[FakeServer] = FakeServer) -> None:
        self.servers: dict[str, FakeServer] = {}
        self._server = server

    def load(self, name: str, path: str) -> int:
        """Load an adapter and return its rank. Raise what a server would if the adapter is missing."""
        config = json.loads((Path(path) / "adapter_config.json").read_bytes())
        (Path(path) / "adapter_model.safetensors").stat()
        scaling = config["lora_alpha"] / config["r"]
        self.servers[name] = self._server(load_script([{"content": f"{name} at {scaling:g}"}]))
        rank: int = config["r"]
        return rank


def serve(
    *,
    port: int,
    key: str,
    model: str,
    length: int,
    refuse: Refusal,
    check: Handler | None = None,
    loras: Loras | None = None,
    routes: Mapping[str, Handler] | None = None,
    server: type[FakeServer] = FakeServer,
    dialect: Dialect | None = None,
) -> None:
    """Serve until the process is ended. ``check`` may answer a chat before the script, or return ``None``."""
    print(f"stand-in: {json.dumps(sys.argv[1:])}", flush=True)
    print(f"GPUs: {os.environ.get('CUDA_VISIBLE_DEVICES', 'all')}", flush=True)
    if STORY == "refuse":
        print(REFUSAL, file=sys.stderr, flush=True)
        raise SystemExit(1)
    if STORY == "orphan":
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        orphan = subprocess.Popen([sys.executable, "-c", code])
        print(f"orphan {orphan.pid}", flush=True)

    dialect = dialect or Dialect()
    happened: set[str] = set()

    @web.middleware
    async def gateway(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/health":
            return web.Response(status=503 if STORY == "deaf" or "lost" in happened else 200)
        if request.headers.get("Authorization") != f"Bearer {key}":
            return dialect.locked()
        if request.content_type == "multipart/form-data":
            try:
                return await handler(request)
            except PorticoError as error:
                return refuse(error.status, error.message)
        if request.method == "POST" and request.path not in (routes or {}):
            body = await request.json()
            adapted = loras.servers.get(body["model"]) if loras is not None else None
            if adapted is not None:
                return await (
                    adapted.chat if request.path.endswith("chat/completions") else adapted.complete
                )(request)
            if body["model"] != model:
                return refuse(404, f"The model `{body['model']}` does not exist.")
            text = json.dumps(body.get("messages") or body.get("prompt"))
            tokens = len(text.split())
            if tokens > length:
                return refuse(400, dialect.too_long.format(tokens=tokens, length=length))
            if STORY in ("lost", "full") and "hello" not in text:
                happened.add(STORY)
                return dialect.broken(TROUBLE[STORY])
            early = await check(request) if check is not None else None
            if early is not None:
                return early
        return await handler(request)

    async def models(_request: web.Request) -> web.Response:
        card = {"id": model, "object": "model", "owned_by": "standin"}
        if dialect.tells_length:
            card["max_model_len"] = length
        return web.json_response({"object": "list", "data": [card]})

    async def run() -> None:
        app = web.Application(middlewares=[gateway], client_max_size=MAX_BODY_BYTES)
        server(load_script(json.loads(os.environ["STANDIN_SCRIPT"]))).mount(app)
        app.router.add_get("/v1/models", models)
        app.router.add_get("/health", models)
        for path, handler in (routes or {}).items():
            app.router.add_post(path, handler)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.get_running_loop().create_future()

    asyncio.run(run())
