"""`portico transcribe`: transcribe a recording."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from portico.cli.nouns import print_outcome
from portico.cli.progress import Spinner
from portico.cli.session import AsJson, connected

app = typer.Typer()


class Format(StrEnum):
    """Output format."""

    text = "text"
    srt = "srt"
    vtt = "vtt"


@app.command(epilog="Example: portico transcribe meeting.mp3 --format srt > meeting.srt")
def transcribe(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A recording: mp3, m4a, mp4, wav, flac, ogg, opus or webm.")],
    form: Annotated[Format, typer.Option("--format", help="Plain text, or subtitles.")] = Format.text,
    model: Annotated[
        str | None, typer.Option(help="The model to use (default: the first that can transcribe).")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="The spoken language, as ISO 639-1, such as en.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="Names and words that occur in the recording, in their correct spelling."),
    ] = None,
    translate: Annotated[bool, typer.Option("--translate", help="Translate to English.")] = False,
    as_json: AsJson = False,
) -> None:
    """Transcribe a recording. Ctrl-C stops the model."""
    with connected(context) as client, Spinner("Listening"):
        if not as_json and form is not Format.text:
            typer.echo(
                client.audio.subtitles(
                    file, model, format=form.value, language=language, prompt=prompt, translate=translate
                ),
                nl=False,
            )
            return
        transcript = client.audio.transcribe(
            file,
            model,
            language=language,
            prompt=prompt,
            times="segment" if as_json else None,
            translate=translate,
        )
    print_outcome(asdict(transcript), as_json, transcript.text)
