"""Run a program as a fork of the process of `forked_python`: ``forked_call.py ADDRESS PROGRAM ARGUMENT...``.

The program has the arguments, environment, working folder and standard streams of this process. Its exit code becomes
the exit code of this process, and it ends when this process ends. This file imports little, because it starts often.
"""

import json
import os
import socket
import sys


def call(address: str, arguments: list[str]) -> int:
    """Run a program, and return its exit code."""
    order = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [b"{"], [0, 1, 2])
        connection.sendall(json.dumps(order).encode()[1:])
        connection.shutdown(socket.SHUT_WR)
        code = connection.recv(1)
    if not code:
        print(f"{arguments[0]}: the process ended without an exit code", file=sys.stderr)
    return code[0] if code else 1


if __name__ == "__main__":
    sys.exit(call(sys.argv[1], sys.argv[2:]))
