"""``/api/prompts``: the prompt library."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict

from portico.schemas.prompts import ImportedPrompts
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import Listed, ListedPage, RemovedName, ThePaging, cut_page
from portico_server.core import pools
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import Principal
from portico_server.core.prompts import spec
from portico_server.core.prompts.argument import PromptArgument
from portico_server.core.prompts.spec import PromptTrial
from portico_server.features.prompts import folder, formats, library
from portico_server.http.fetch.fetcher import OutwardFetcher
from portico_server.http.fetch.policy import AddressPolicy

router = new_router(tagged=True, prefix="/api/prompts", tags=["Prompts"])


class PromptMessage(BaseModel):
    """A message of a prompt; ``{name}`` marks an argument, ``{{`` and ``}}`` are literal braces."""

    role: Literal["system", "user", "assistant"]
    content: str


class Example(BaseModel):
    """An example question and its answer, inserted verbatim."""

    user: str
    assistant: str


class Prompt(BaseModel):
    """One version of a prompt.

    ``origin`` is the source of an imported prompt; it is empty if the prompt was created here, and ``portico`` if it
    came with Portico. ``id`` always refers to this prompt. ``shared``: for every key, the name refers to this prompt.
    ``owner``: for a prompt that is not shared, the key that owns it; only admins see this field.
    """

    id: str
    name: str
    version: int
    shared: bool
    owner: str | None
    title: str
    description: str
    arguments: list[PromptArgument]
    messages: list[PromptMessage]
    examples: list[Example]
    cases: list[PromptTrial] = []
    origin: str
    created_at: float

    @classmethod
    def of(cls, prompt: library.StoredPrompt, caller: Principal) -> Prompt:
        """Convert a prompt of the library."""
        return cls(
            id=prompt.id,
            shared=prompt.owner is None,
            owner=prompt.owner if caller.admin else None,
            version=prompt.version,
            origin=prompt.origin,
            created_at=prompt.created_at,
            **prompt.spec.to_json(),
        )


class NewPrompt(BaseModel):
    """A prompt to save. If the name exists with different content, this creates a new version."""

    model_config = ConfigDict(extra="allow")

    name: str


class PromptFiles(BaseModel, extra="forbid"):
    """Prompts to import: ``files``, which maps paths to texts, or ``url``, the https address of a Git repository."""

    files: dict[str, str] = {}
    url: str = ""
    origin: str = ""
    dry_run: bool = False


class PromptArguments(BaseModel, extra="forbid"):
    """The arguments by name, and the version of the prompt, by default the newest."""

    arguments: dict[str, Any] = {}
    version: int | None = None


class PromptDocument(BaseModel):
    """A prompt as a file: the name and the text of the file."""

    filename: str
    text: str


class Rendered(BaseModel):
    """A prompt's messages in the format of a chat model."""

    name: str
    version: int
    messages: list[PromptMessage]


@router.get("")
async def list_prompts(
    services: TheServices,
    caller: Caller,
    paging: ThePaging,
    all: Annotated[
        bool, Query(description="For admins: include the prompts of other keys, listed by id")
    ] = False,
) -> ListedPage[Prompt]:
    """List the newest version of each prompt, by name; without ``limit`` all of them.

    If ``has_more`` is true, pass ``last_id`` as ``after`` to get the next page. ``query``: only prompts whose names
    contain this text.
    """
    if all:
        caller.require("admin")
    prompts = await services.prompts.list(caller, include_all=all)
    page = cut_page(prompts, paging, "prompt")
    return ListedPage.of([Prompt.of(prompt, caller) for prompt in page.data], page.has_more)


@router.post("")
async def save_prompt(body: NewPrompt, services: TheServices, caller: Caller) -> Prompt:
    """Save a prompt. Saving identical content again creates no version."""
    prompt, _is_made = await services.prompts.save(spec.parse(body.model_dump()), caller)
    return Prompt.of(prompt, caller)


@router.post("/import")
async def import_prompts(body: PromptFiles, services: TheServices, caller: Caller) -> ImportedPrompts:
    """Import prompts from files, or from a Git repository (``admin`` only). All of them are imported, or none."""
    if bool(body.url) == bool(body.files):
        raise InvalidRequest("Give either 'files' or the 'url' of a Git repository.", param="files")
    if body.url:
        caller.require("admin")
        addresses = await OutwardFetcher(AddressPolicy.of(services.settings.tool_hosts)).addresses(
            folder.check_url(body.url)
        )
        specs = await folder.read_repository(body.url, addresses)
    else:
        specs = await pools.DOCUMENTS.run_for(caller.id, folder.read_texts, body.files)
    if not specs:
        raise InvalidRequest(
            "No prompts found. Supported files: .yaml, .md with front matter between two lines of ---, "
            ".prompty, .prompt, and LangChain's .json.",
            code="no_prompts",
            param="url" if body.url else "files",
        )
    return await services.prompts.take(specs, caller, origin=body.url or body.origin, dry_run=body.dry_run)


@router.get("/{name:path}/export")
async def export_prompt(
    name: str,
    services: TheServices,
    caller: Caller,
    format: Annotated[
        str,
        Query(description="markdown, yaml, prompty, dotprompt or langchain; markdown and yaml are lossless"),
    ] = "markdown",
    version: int | None = None,
) -> PromptDocument:
    """Export a prompt as the text of a file, in Portico's own format or in that of another tool."""
    prompt = await services.prompts.get(name, caller, version)
    filename, text = formats.write_prompt(prompt.spec, format)
    return PromptDocument(filename=filename, text=text)


@router.get("/{name:path}/versions")
async def list_prompt_versions(name: str, services: TheServices, caller: Caller) -> Listed[Prompt]:
    """List all versions of a prompt, newest first."""
    prompt_rows = await services.prompts.history(name, caller)
    return Listed(data=[Prompt.of(prompt, caller) for prompt in prompt_rows])


@router.post("/{name:path}/render")
async def render_prompt(name: str, body: PromptArguments, services: TheServices, caller: Caller) -> Rendered:
    """Return the messages of a prompt with its arguments filled in."""
    prompt = await services.prompts.get(name, caller, body.version)
    messages = [PromptMessage(**message) for message in prompt.spec.render(body.arguments)]
    return Rendered(name=prompt.name, version=prompt.version, messages=messages)


@router.get("/{name:path}")
async def get_prompt(name: str, services: TheServices, caller: Caller, version: int | None = None) -> Prompt:
    """Return a version of a prompt, by default the newest."""
    return Prompt.of(await services.prompts.get(name, caller, version), caller)


@router.delete("/{name:path}")
async def remove_prompt(name: str, services: TheServices, caller: Caller) -> RemovedName:
    """Delete a prompt and all its versions."""
    await services.prompts.remove(name, caller)
    return RemovedName(name=name)
