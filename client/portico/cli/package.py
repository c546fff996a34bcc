"""`portico package`: writes an app with all its dependencies, pinned, to run elsewhere."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from portico._filenames import filename_problem
from portico.cli.complete import app_names
from portico.cli.progress import Spinner
from portico.cli.render import amount, plain, print_fields, print_json, safe
from portico.cli.session import AsJson, DryRun, connected
from portico.errors import Conflict, InvalidRequest
from portico.schemas.packages import PackagedContents

app = typer.Typer()

MANIFEST = "MANIFEST.json"

BLOCK_BYTES = 1024 * 1024

Included = Literal["include", "reference"]


@app.command(epilog="Example: portico package handbook --image --slurm --partition gpu -o handbook.zip")
def package(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="APP", help="The app.", autocompletion=app_names)],
    version: Annotated[
        int | None, typer.Option(min=1, help="The version to package (default: the current one).")
    ] = None,
    image: Annotated[bool, typer.Option("--image", help="With a Dockerfile.")] = False,
    compose: Annotated[
        bool, typer.Option("--compose", help="Include a Compose file that runs the app with PostgreSQL.")
    ] = False,
    kubernetes: Annotated[bool, typer.Option("--kubernetes", help="Include Kubernetes manifests.")] = False,
    slurm: Annotated[bool, typer.Option("--slurm", help="Include a script for sbatch.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="A file that ends in .zip, or a folder (default: a folder named after the app).",
        ),
    ] = None,
    stores: Annotated[
        Included,
        typer.Option(
            help="Include stores as archives, or as references to the URL or folder that they follow."
        ),
    ] = "include",
    models: Annotated[
        Included,
        typer.Option(
            help="Include models as references to their sources, or also as files from the daemon's machine."
        ),
    ] = "reference",
    include: Annotated[
        list[str] | None,
        typer.Option(
            help="An additional object to include: store/NAME, tool/NAME, prompt/NAME, a model or an app. "
            "Repeatable."
        ),
    ] = None,
    image_name: Annotated[
        str, typer.Option("--tag", help="The name of the image (default: APP:VERSION).")
    ] = "",
    base: Annotated[str, typer.Option(help="The Python base image, preferably with a digest.")] = "",
    host: Annotated[
        str, typer.Option(help="The host name that clients use; on Kubernetes, this adds an Ingress.")
    ] = "",
    replicas: Annotated[
        int,
        typer.Option(min=1, max=100, help="Number of daemons on Kubernetes; more than one needs PostgreSQL."),
    ] = 1,
    max_replicas: Annotated[
        int, typer.Option(min=0, max=100, help="Maximum number of daemons under load.")
    ] = 0,
    gpus: Annotated[int, typer.Option(min=0, max=64, help="GPUs per daemon.")] = 0,
    cpus: Annotated[int, typer.Option(min=1, max=1024, help="Cores per daemon.")] = 2,
    memory: Annotated[int, typer.Option(min=256, max=16_777_216, help="Memory per daemon, in MB.")] = 4096,
    storage: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Size of the daemon's volume, in GB.")
    ] = 20,
    partition: Annotated[str, typer.Option(help="Partition of the Slurm job.")] = "",
    account: Annotated[str, typer.Option(help="Account of the Slurm job.")] = "",
    time: Annotated[str, typer.Option(help="Time limit of the Slurm job, such as 8:00:00.")] = "",
    gres: Annotated[str, typer.Option(help="Generic resources of the Slurm job, such as gpu:a100:1.")] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file or folder.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write an app and everything it needs, pinned, to a folder or file: configuration, flows, stores, Portico itself.

    The package contains no secrets: .env.example lists the secrets that the target machine must set.
    """
    to = out or Path(name.rpartition("/")[2])
    if not dry_run:
        _require_free(to, overwrite)
    targets = [
        word
        for word, is_wanted in (
            ("image", image),
            ("compose", compose),
            ("kubernetes", kubernetes),
            ("slurm", slurm),
        )
        if is_wanted
    ]
    options = {
        "image": image_name,
        "base": base,
        "host": host,
        "replicas": replicas,
        "max_replicas": max_replicas,
        "gpus": gpus,
        "cpus": cpus,
        "memory_mb": memory,
        "storage_gb": storage,
        "partition": partition,
        "account": account,
        "time": time,
        "gres": gres,
    }
    asked_options: dict[str, Any] = {
        "version": version,
        "targets": targets,
        "stores": stores,
        "models": models,
        "include": include or (),
        "options": {key: value for key, value in options.items() if value != ""},
    }
    with connected(context) as client:
        packaged_contents = client.apps.plan_package(name, **asked_options)
        size = None
        if not dry_run:
            with Spinner(f"Packaging {name}"), tempfile.TemporaryDirectory(dir=_beside(to)) as scratch:
                archive = Path(scratch) / "package.zip"
                size = client.apps.package(name, archive, **asked_options)
                _put(archive, Path(scratch), to)
    if as_json:
        print_json({**plain(packaged_contents), "out": None if dry_run else str(to), "bytes": size})
    else:
        _print(packaged_contents, to, size)


def _require_free(to: Path, overwrite: bool) -> None:
    is_taken = to.exists() and not (to.is_dir() and to.suffix != ".zip" and not any(to.iterdir()))
    if is_taken and not overwrite:
        raise InvalidRequest(f"{to} already exists: use --overwrite to replace it.", param="out")
    if to.is_dir() and is_taken and not (to / MANIFEST).is_file():
        raise InvalidRequest(
            f"{to} is a folder that does not contain a package, so it is not replaced. Choose another folder.",
            param="out",
        )


def _beside(to: Path) -> Path:
    folder = to.absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _put(archive: Path, scratch: Path, to: Path) -> None:
    """Move the complete, verified package to its destination."""
    folder = scratch / "unpacked"
    _unpack(archive, folder)
    if to.suffix == ".zip":
        archive.replace(to)
        return
    if to.exists():
        shutil.rmtree(to)
    folder.rename(to)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a package archive. Raises `Conflict` if the archive is damaged or does not match its manifest."""
    try:
        with zipfile.ZipFile(archive) as zip_file:
            sums = dict(json.loads(zip_file.read(MANIFEST))["sha256"])
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise Conflict("The daemon sent a damaged package. Package the app again.") from error
    with zipfile.ZipFile(archive) as zip_file:
        for entry in zip_file.infolist():
            if problem := filename_problem(entry.filename):
                raise Conflict(f"The package contains an unexpected entry: {entry.filename!r} {problem}.")
            target = folder / entry.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            with zip_file.open(entry) as source, target.open("wb") as file:
                while block := source.read(BLOCK_BYTES):
                    digest.update(block)
                    file.write(block)
            if entry.filename != MANIFEST and digest.hexdigest() != sums.get(entry.filename):
                raise Conflict(f"{entry.filename} in the package is damaged. Package the app again.")
            if target.suffix == ".sh":
                target.chmod(0o755)


def _print(packaged_contents: PackagedContents, to: Path, size: int | None) -> None:
    version = f" in version {packaged_contents.version}" if packaged_contents.version else ""
    typer.echo(f"The app '{packaged_contents.app}'{version} {'would bring' if size is None else 'brings'}:")
    print_fields(
        [
            ("models", _names(model["source"] for model in packaged_contents.models)),
            (
                "stores",
                _names(f"{store['name']} ({store['files']} files)" for store in packaged_contents.stores),
            ),
            (
                "apps",
                _names(f"{item['name']} (version {item['version']})" for item in packaged_contents.apps),
            ),
            (
                "prompts",
                _names(f"{item['name']} (version {item['version']})" for item in packaged_contents.prompts),
            ),
            (
                "skills",
                _names(f"{item['name']} (version {item['version']})" for item in packaged_contents.skills),
            ),
            ("tools", _names(packaged_contents.tools)),
            ("MCP servers", _names(packaged_contents.mcp)),
            ("to be set", _names(packaged_contents.variables)),
        ]
    )
    for note in packaged_contents.notes:
        typer.secho(safe(note), fg="yellow", err=True)
    if size is None:
        typer.echo("Nothing was written.")
        return
    guide = "README.md in the package" if to.suffix == ".zip" else to / "README.md"
    typer.echo(f"Wrote {to} ({amount(size)}). {guide} describes how to run it.")


def _names(names: Sequence[str] | Any) -> str:
    return ", ".join(names)
