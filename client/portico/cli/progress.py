"""Shows the progress of runs on standard error: on a terminal a line that is updated, elsewhere one line at the end."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.text import Text

from portico.cli.render import amount, console, one_line, shorten
from portico.errors import PorticoError
from portico.schemas.runs import RunEvent
from portico.wire import Failed, Finished, Progressed

if TYPE_CHECKING:
    from portico.client import Client

SPINNER_WIDTH = 2
"""Number of columns that the spinner occupies before the text."""


class Bars:
    """A line on the terminal that shows the progress of several runs at the same time."""

    def __init__(self) -> None:
        self._console = console(error=True)
        self._line = self._console.status("") if self._console.is_terminal else None
        self._texts: dict[Bar, str] = {}

    def bar(self, label: str) -> Bar:
        """Add a section for a run to the line, and return it."""
        bar = Bar(self, label)
        self.show(bar, bar.label)
        return bar

    def show(self, bar: Bar, text: str) -> None:
        """Set the text of a bar's section."""
        self._texts[bar] = text
        self._update()

    def end(self, bar: Bar, line: str, style: str) -> None:
        """Remove a bar's section and print ``line`` above, unless it is empty."""
        self._texts.pop(bar, None)
        self._update()
        if line:
            self._console.print(Text(one_line(line), style))

    def _update(self) -> None:
        if self._line is not None:
            line = shorten(" · ".join(self._texts.values()), self._console.width - SPINNER_WIDTH)
            self._line.update(escape(line))

    def __enter__(self) -> Bars:
        if self._line is not None:
            self._line.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is not None:
            self._line.stop()


def follow_result(client: Client, run: str, label: str) -> Mapping[str, Any]:
    """Show a progress bar until a run ends, and return the run's result. Raise `PorticoError` if the run failed."""
    result: Mapping[str, Any] = {}
    with Bars() as bars:
        bar = bars.bar(label)
        for item in client.runs.events(run):
            bar.take(item)
            match item.event:
                case Finished(result=document) if isinstance(document, Mapping):
                    result = document
                case Failed(error=error):
                    raise PorticoError(error.message, code=error.code)
    return result


class Bar:
    """The section of the line that shows one run. `take` updates it with the run's events."""

    def __init__(self, bars: Bars, label: str) -> None:
        self._bars = bars
        self.label = one_line(label)
        self._last: Progressed | None = None
        self.failed: str | None = None
        """The error message if the run has failed, otherwise ``None``."""

    def take(self, item: RunEvent) -> None:
        match item.event:
            case Progressed() as status:
                self._last = status
                self._bars.show(self, progress_text(self.label, status))
            case Failed(error=error):
                self.fail(error.message)
            case Finished():
                done_text = _amount(self._last) if self._last and self._last.done else "done"
                self.end(f"{self.label}: {done_text}")

    def end(self, line: str) -> None:
        """Finish with a line."""
        self._bars.end(self, line, "green")

    def fail(self, message: str) -> None:
        """Finish with the error message of the run."""
        self.failed = message
        self._bars.end(self, f"{self.label}: {message}", "red")


def progress_text(label: str, status: Progressed) -> str:
    """Describe the progress of a run: ``Reading docs, 3 of 9: big.txt 40 %`` or ``Fetching smollm2: 40.1 of 93.4
    MB``.
    """
    if status.unit == "files" and status.message and status.done is not None and status.total:
        return (
            f"{label}, {min(status.done + 1, status.total):g} of {status.total:g}: {one_line(status.message)}"
        )
    if status.unit == "bytes":
        return f"{label}: {_amount(status)}"
    description = status.message if status.unit == "chunks" and status.message else status.stage
    progress = _amount(status) if status.done is not None else ""
    return f"{label}: {one_line(description)}{', ' if progress else ''}{progress}"


def _amount(status: Progressed) -> str:
    if status.done is None:
        return one_line(status.message)
    if status.unit != "bytes":
        done_text, total, unit = f"{status.done:g}", f"{status.total or 0:g}", f" {status.unit}"
    else:
        done_text, total, unit = amount(status.done), amount(status.total), ""
        if done_text.rpartition(" ")[2] == total.rpartition(" ")[2]:
            done_text = done_text.rpartition(" ")[0]
    return f"{done_text} of {total}{unit}" if status.total else f"{done_text}{unit}"


class Spinner:
    """Shows on a terminal that work without measurable progress continues. Prints nothing if there is no terminal."""

    def __init__(self, label: str) -> None:
        out = console(error=True)
        self._status = out.status(escape(one_line(label))) if out.is_terminal else None

    def say(self, label: str) -> None:
        """Change the label."""
        if self._status is not None:
            self._status.update(escape(one_line(label)))

    def stop(self) -> None:
        """Remove the spinner from the terminal; can be called repeatedly."""
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
