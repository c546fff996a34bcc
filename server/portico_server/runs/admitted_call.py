"""A call that an app's limits have admitted."""

from __future__ import annotations

from types import TracebackType

from portico_server.runs.quotas import UsageMeter
from portico_server.runs.run import Run


class AdmittedCall:
    """Counts the call until its run ends, or until the ``with`` block ends if the call started no run.

    ``meter`` has already counted the start of the call; it is ``None`` for an app without limits.
    """

    def __init__(self, meter: UsageMeter | None) -> None:
        self._meter = meter

    def follow(self, run: Run) -> None:
        """End the call when the run ends, and count the run's tokens then."""
        meter, self._meter = self._meter, None
        if meter is None:
            return
        assert run.task is not None

        def on_end(_task: object) -> None:
            meter.leave()
            meter.spend(run.usage.prompt_tokens + run.usage.completion_tokens)

        run.task.add_done_callback(on_end)

    def __enter__(self) -> AdmittedCall:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._meter is not None:
            self._meter.leave()
            self._meter = None
