"""`portico speak`: converts text to speech, or generates music, and writes it to a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli.nouns import print_outcome
from portico.cli.progress import Spinner
from portico.cli.session import AsJson, connected
from portico.errors import InvalidRequest

app = typer.Typer()

_ENDINGS = ("wav", "mp3", "opus", "aac", "flac", "pcm")


@app.command(epilog="Example: portico speak 'The door is open.' -o door.wav --voice default")
def speak(
    context: typer.Context,
    text: Annotated[
        str,
        typer.Argument(
            help="The text to speak, or a description of the music; - reads it from standard input."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The file to write: .wav, .mp3, .opus, .aac, .flac or .pcm."),
    ] = Path("speech.wav"),
    model: Annotated[
        str | None, typer.Option(help="The model to use (default: the first that can speak).")
    ] = None,
    voice: Annotated[str | None, typer.Option(help="One of the model's voices.")] = None,
    speed: Annotated[float, typer.Option(min=0.25, max=4, help="2 is twice as fast.")] = 1.0,
    instructions: Annotated[
        str | None, typer.Option(help="How to say it, for models that support instructions.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Duration of the music.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a text as speech to a file, or generate music. Ctrl-C stops the model."""
    form = output.suffix.lower().removeprefix(".")
    if form not in _ENDINGS:
        raise InvalidRequest(f"'{output}' must end in .{', .'.join(_ENDINGS)}.", param="output")
    spoken_text = sys.stdin.read() if text == "-" else text
    if not spoken_text.strip():
        raise InvalidRequest("The text is empty.", param="text")
    options_given: dict[str, Any] = {"instructions": instructions, "seconds": seconds}
    options = {name: value for name, value in options_given.items() if value is not None}
    with connected(context) as client, Spinner("Speaking"):
        size = client.audio.speak_to(
            output,
            spoken_text,
            model,
            voice=voice,
            format=form,  # type: ignore[arg-type]  # it is one of them
            speed=speed,
            **options,
        )
    print_outcome({"path": str(output), "bytes": size}, as_json, output)
