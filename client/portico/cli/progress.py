"""Progress of runs: bars on a terminal, one line at the end elsewhere. All of it on standard error."""

from __future__ import annotations

from types import TracebackType

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from portico.cli.render import amount, console, one_line
from portico.values import RunEvent
from portico.wire import Failed, Finished, Status


class Bars:
    """Bars for runs that continue at the same time."""

    def __init__(self) -> None:
        self._console = console(error=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[amount]}", markup=False),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def bar(self, label: str) -> Bar:
        """A bar for one run."""
        return Bar(self._progress, label)

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class Bar:
    """The bar of one run, fed with its events."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = one_line(label)
        self._task = progress.add_task(self._label, total=None, amount="")
        self._last: Status | None = None
        self.failed: str | None = None
        """The sentence that ended the run, if one did."""

    def take(self, item: RunEvent) -> None:
        match item.event:
            case Status() as status:
                self._last = status
                self._progress.update(
                    self._task,
                    description=f"{self._label}: {one_line(status.stage)}",
                    completed=status.done or 0,
                    total=status.total,
                    amount=_amount(status),
                )
            case Failed(error=error):
                self.fail(error.message)
            case Finished():
                done = _amount(self._last) if self._last and self._last.done else "done"
                self._end(f"{self._label}: {done}", "green")

    def fail(self, message: str) -> None:
        """End the bar with the sentence that ended the run."""
        self.failed = message
        self._end(f"{self._label}: {message}", "red")

    def _end(self, line: str, style: str) -> None:
        self._progress.remove_task(self._task)
        self._progress.refresh()
        self._progress.console.print(Text(one_line(line), style))


def _amount(status: Status) -> str:
    if status.done is None:
        return one_line(status.message)
    if status.unit == "bytes":
        done = amount(status.done)
        return f"{done} of {amount(status.total)}" if status.total else done
    return (
        f"{status.done:g} of {status.total:g} {status.unit}"
        if status.total
        else f"{status.done:g} {status.unit}"
    )


class Spinner:
    """Says on a terminal that something without a measure continues; silent where there is none."""

    def __init__(self, label: str) -> None:
        out = console(error=True)
        self._status = out.status(escape(one_line(label))) if out.is_terminal else None

    def say(self, label: str) -> None:
        """Change what it says."""
        if self._status is not None:
            self._status.update(escape(one_line(label)))

    def stop(self) -> None:
        """Take it off the terminal; more than once does no harm."""
        if self._status is not None:
            self._status.stop()

    def __enter__(self) -> Spinner:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
