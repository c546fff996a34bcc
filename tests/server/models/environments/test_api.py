"""Engines and their environments over the public APIs."""

from __future__ import annotations

import pytest
from tests.daemon import Daemon

from portico import Client
from portico.errors import NotFound


def test_engines_are_listed(daemon: Daemon) -> None:
    with Client(daemon.url) as client:
        engines = {engine.name: engine for engine in client.engines.list()}
    assert list(engines) == sorted(engines)
    assert engines["llamacpp"].state == "built in" and engines["vllm"].state == "absent"
    assert engines["vllm"].version and engines["vllm"].gigabytes > 1


def test_doctor_and_remove_report_absent_and_unknown_engines(daemon: Daemon) -> None:
    with Client(daemon.url) as client:
        findings = client.engines.doctor("vllm")
        assert [finding.check for finding in findings] == ["machine", "environment"]
        assert findings[0].ok == ("portico engines install vllm" in findings[1].detail)
        for call in (client.engines.remove, client.engines.doctor, client.engines.install):
            with pytest.raises(NotFound):
                call("vlm")
        with pytest.raises(NotFound):
            client.engines.remove("vllm")
