"""vLLM's command ``serve`` on several nodes: the first one serves once the others have connected to it."""

from __future__ import annotations

import argparse
import contextlib
import runpy
import socket
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=("serve",))
    parser.add_argument("--nnodes", type=int, required=True)
    parser.add_argument("--node-rank", type=int, required=True)
    parser.add_argument("--master-addr", required=True)
    parser.add_argument("--master-port", type=int, required=True)
    parser.add_argument("--headless", action="store_true")
    given, sys.argv[1:] = parser.parse_known_args()
    assert given.headless == (given.node_rank > 0)
    first = (given.master_addr, given.master_port)
    if given.headless:
        while True:
            with contextlib.suppress(ConnectionError), socket.create_connection(first) as connection:
                connection.sendall(b"%d" % given.node_rank)
                connection.recv(1)
                return
            time.sleep(0.05)
    with socket.create_server(first) as server:
        others = [server.accept()[0] for _ in range(1, given.nnodes)]
        print(f"nodes: {sorted(int(other.recv(8)) for other in others)}", flush=True)
        runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")


if __name__ == "__main__":
    main()
