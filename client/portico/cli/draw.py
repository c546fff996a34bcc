"""`portico draw`: generates an image from text, or edits an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli.render import console, print_json
from portico.cli.session import AsJson, connected
from portico.errors import InvalidRequest

app = typer.Typer()

_SUFFIXES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


@app.command(epilog='Example: portico draw "a lighthouse at night" -o lighthouse.png --size 512x512')
def draw(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What the image shows, or what to change.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write: .png, .jpg or .webp.")
    ] = Path("picture.png"),
    model: Annotated[
        str | None, typer.Option(help="The model to use (default: the first that can draw).")
    ] = None,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels, or auto.")] = "auto",
    number: Annotated[int, typer.Option("-n", min=1, max=10, help="How many.")] = 1,
    image: Annotated[list[Path] | None, typer.Option(help="An image to edit; repeatable.")] = None,
    mask: Annotated[
        Path | None, typer.Option(help="A PNG that is transparent where the image should change.")
    ] = None,
    quality: Annotated[str | None, typer.Option(help="low, medium or high.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same image.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=500, help="Number of steps of a local model.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Generate an image, or edit an image, and write it to a file. Ctrl-C stops the model."""
    kind = _SUFFIXES.get(output.suffix.lower())
    if kind is None:
        raise InvalidRequest(f"'{output}' must end in {', '.join(_SUFFIXES)}.", param="output")
    if not output.parent.is_dir():
        raise InvalidRequest(f"The folder '{output.parent}' does not exist.", param="output")
    if mask is not None and not image:
        raise InvalidRequest("--mask needs --image, the image to edit.", param="mask")
    given_options: dict[str, Any] = {"quality": quality, "seed": seed, "steps": steps}
    options = {name: value for name, value in given_options.items() if value is not None}
    if kind != "png":
        options["output_format"] = kind
    with connected(context) as client, console(error=True).status("Drawing"):
        if image:
            new_pictures = client.images.edit(image, prompt, model, mask=mask, size=size, n=number, **options)
        else:
            new_pictures = client.images.draw(prompt, model, size=size, n=number, **options)
    paths = (
        [output]
        if len(new_pictures) == 1
        else [_numbered_path(output, place) for place in range(1, len(new_pictures) + 1)]
    )
    for picture, path in zip(new_pictures, paths, strict=True):
        try:
            picture.save(path)
        except OSError as error:
            raise InvalidRequest(f"Cannot write '{path}': {error.strerror}.", param="output") from error
    if as_json:
        pictures = [
            {
                "path": str(path),
                "media_type": picture.media_type,
                "bytes": len(picture.data),
                "revised_prompt": picture.revised_prompt,
            }
            for picture, path in zip(new_pictures, paths, strict=True)
        ]
        print_json({"pictures": pictures})
        return
    for path in paths:
        typer.echo(path)


def _numbered_path(path: Path, place: int) -> Path:
    return path.with_name(f"{path.stem}-{place}{path.suffix}")
