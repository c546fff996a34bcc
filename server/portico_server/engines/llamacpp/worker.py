"""The process of a GGUF model: llama.cpp's own HTTP server, in the build of the xllamacpp wheel."""

from __future__ import annotations

import os
import signal
from typing import Any
from urllib.parse import urlsplit

from portico_server.engines import lifeline

CACHE_MB = 512
"""Memory for prompts of earlier calls; llama.cpp's own default is 8 GB."""

_POOLING = {
    "mean": "LLAMA_POOLING_TYPE_MEAN",
    "cls": "LLAMA_POOLING_TYPE_CLS",
    "last": "LLAMA_POOLING_TYPE_LAST",
}


def parameters(config: dict[str, Any]) -> Any:
    """llama.cpp's parameters for a plan."""
    import xllamacpp

    given = config["plan"]
    params = xllamacpp.CommonParams()
    params.model.path = config["model"]
    params.model_alias = {config["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [config["key"]]
    params.ui = False
    params.offline = True
    params.verbosity = 1
    params.n_parallel = given["slots"]
    params.n_ctx = given["context_length"] * given["slots"]
    params.cpuparams.n_threads = given["threads"]
    params.cpuparams_batch.n_threads = given["threads"]
    params.n_gpu_layers = given["gpu_layers"]
    # It would load the model once more to find out what `plan` has settled already.
    params.fit_params = False
    params.cache_ram_mib = CACHE_MB
    if given["chat_template"]:
        params.chat_template = given["chat_template"]
    if given["embedding"]:
        params.embedding = True
        params.n_batch = params.n_ubatch = given["context_length"]
        if given["pooling"]:
            params.pooling_type = getattr(xllamacpp.llama_pooling_type, _POOLING[given["pooling"]])
    return params


def main() -> None:
    """As a child of the daemon."""
    config = lifeline.receive()
    # Threads that spin while they wait for each other are ten times slower as soon as anything else runs on
    # their cores. OpenMP reads this when llama.cpp is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The server of llama.cpp runs in native threads: let the system end them, at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        import xllamacpp
    except ImportError as error:
        lifeline.give_up(
            f"the package xllamacpp does not load ({error}). Install it anew: pip install xllamacpp."
        )
    try:
        server = xllamacpp.Server(parameters(config))
    except (RuntimeError, ValueError) as error:
        lifeline.give_up(
            f"llama.cpp cannot load {config['model']} ({error}) The model's log says why: the file may be "
            "damaged, of a kind that this version does not know, or larger than the memory."
        )
    lifeline.announce(urlsplit(server.listening_address).port or 0)
    signal.pause()


if __name__ == "__main__":
    main()
