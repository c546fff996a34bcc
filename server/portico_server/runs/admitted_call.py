"""A call that the limits of an app have let in."""

from __future__ import annotations

from types import TracebackType

from portico_server.runs.quotas import UsageMeter
from portico_server.runs.run import Run


class AdmittedCall:
    """Counts the call from now until its run ends, or until the ``with`` block ends if no run came of it.

    Raises `TooMany` at its making if the app is over one of its limits. ``meter`` is ``None`` without limits.
    """

    def __init__(self, meter: UsageMeter | None) -> None:
        if meter is not None:
            meter.enter()
        self._meter = meter

    def follow(self, run: Run) -> None:
        """Let the end of the run be the end of the call, and count its tokens then."""
        meter, self._meter = self._meter, None
        if meter is None:
            return
        assert run.task is not None

        def ended(_task: object) -> None:
            meter.leave()
            meter.spend(run.usage.prompt_tokens + run.usage.completion_tokens)

        run.task.add_done_callback(ended)

    def __enter__(self) -> AdmittedCall:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._meter is not None:
            self._meter.leave()
            self._meter = None
