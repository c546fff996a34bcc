"""An iterator that is abandoned midway, as in notebooks."""

from __future__ import annotations

import subprocess
import sys

from tests import daemon as daemons
from tests.daemon import Daemon

from portico import Client

DROP = """
import gc
from httpcore import _synchronization
from portico import Client
from portico.flow import approve

gc.disable()
with Client() as client:
    running = client.start(approve("Go?"))
    events = running.events()
    next(events)
    followed = client.runs.events(running.id)
    next(followed)
    print(running.id)
    ring = [running, events, followed]
    ring.append(ring)
    del ring, running, events, followed  # in a ring, they are there until Python collects

    enter = _synchronization.ThreadLock.__enter__

    def collecting(lock):
        enter(lock)
        gc.collect()  # as it may happen at any allocation
        return lock

    _synchronization.ThreadLock.__enter__ = collecting
    print(len(client.runs.list()) > 0)
"""


def run(code: str, daemon: Daemon) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=daemons.environment(PORTICO_URL=daemon.url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_garbage_collecting_a_run_iterator_during_another_call_does_not_deadlock(daemon: Daemon) -> None:
    output_lines = run(DROP, daemon)
    assert output_lines[1] == "True"
    with Client(daemon.url) as client:
        for _event in client.runs.events(output_lines[0]):
            pass
        assert client.runs.get(output_lines[0]).status == "cancelled"


LEAVE = """
from portico import Client
from portico.flow import approve

client = Client()
running = client.start(approve("Go?"))
for event in running.events():
    break
for item in client.runs.events(running.id):
    break
print(client.status().version)
"""


def test_breaking_out_of_event_iteration_keeps_the_client_usable(daemon: Daemon) -> None:
    assert len(run(LEAVE, daemon)) == 1
