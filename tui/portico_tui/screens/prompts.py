"""Prompts: versioned texts with arguments; write, fill in, compare and import them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from textual.content import Content

from portico.cli.prompts import placeholders, prompt_files
from portico.schemas.prompts import Prompt
from portico_tui.screens.page import AppServices, ListingScreen, SublistScreen, action, row_action
from portico_tui.text import clock, one_line, safe
from portico_tui.widgets.dialogs import Field, Form, Reader
from portico_tui.widgets.schema_form import Schema, fields_of, local_path, reader, value_of
from portico_tui.widgets.table_rows import TableColumn

FORMATS = ("markdown", "yaml", "prompty", "dotprompt", "langchain")
_format = reader({"type": "string", "enum": FORMATS})


class PromptsScreen(ListingScreen[Prompt]):
    """The prompt library."""

    MODE = "prompts"
    TAB = "Prompts"
    COLUMNS = (
        TableColumn[Prompt]("PROMPT", lambda prompt: prompt.name, "bold", 36),
        TableColumn[Prompt]("VERSION", lambda prompt: prompt.version, sort=lambda prompt: prompt.version),
        TableColumn[Prompt]("TAKES", lambda prompt: [argument["name"] for argument in prompt.arguments]),
        TableColumn[Prompt]("WHAT", lambda prompt: prompt.description or prompt.title, "dim"),
    )
    EMPTY = "No prompts yet.\n\nPress n to write one, i to import a folder."

    async def find(self) -> Sequence[Prompt]:
        return await self.client.prompts.list()

    def identify(self, item: Prompt) -> str:
        return item.id or item.name

    def detail(self, item: Prompt) -> Iterable[Content | str]:
        return _lines(item.messages)

    @row_action("enter,r", "Fill in", "Messages of the prompt with arguments filled in")
    async def render_prompt(self, prompt: Prompt) -> None:
        schema = _schema(prompt)
        fields = fields_of(schema)
        answers = await self.ask(Form(f"Fill in {one_line(prompt.name)}", *fields)) if fields else {}
        if answers is None:
            return
        messages = await self.client.prompts.render(
            prompt.name, value_of(schema, answers), version=prompt.version
        )
        text = "\n".join(f"{message['role']}\n{message['content']}\n" for message in messages)
        self.app.push_screen(Reader(one_line(prompt.name), safe(text)))

    @action("n", "New", "Write a prompt")
    async def new(self) -> None:
        await self._write("Write a prompt", "", "", "", "")

    @row_action("e", "Edit", "Write a new version of the prompt")
    async def edit(self, prompt: Prompt) -> None:
        texts: dict[str, str] = {message["role"]: message["content"] for message in prompt.messages}
        system, user = texts.get("system", ""), texts.get("user", "")
        await self._write(
            f"Edit {one_line(prompt.name)}", prompt.name, system, user, prompt.description, prompt
        )

    async def _write(
        self,
        title: str,
        name: str,
        system: str,
        user: str,
        description: str,
        known_prompt: Prompt | None = None,
    ) -> None:
        answers = await self.ask(
            Form(
                title,
                Field("name", "Name", name),
                Field("system", "System message · optional", system, optional=True, text=True),
                Field("user", "User message; {word} is replaced by an argument", user, text=True),
                Field("description", "Purpose · optional", description, optional=True),
            )
        )
        if answers is None:
            return
        messages = [{"role": role, "content": answers[role]} for role in ("system", "user") if answers[role]]
        words = dict.fromkeys(word for message in messages for word in placeholders(message["content"]))
        declared_arguments = (
            {argument["name"]: argument for argument in known_prompt.arguments} if known_prompt else {}
        )
        arguments: list[Any] = [declared_arguments.get(word, word) for word in words]
        prompt_fields = (
            {"title": known_prompt.title, "examples": known_prompt.examples, "cases": known_prompt.cases}
            if known_prompt
            else {}
        )
        kept_fields = {name: value for name, value in prompt_fields.items() if value}
        prompt = await self.client.prompts.save(
            answers["name"],
            description=answers["description"],
            arguments=arguments,
            messages=messages,
            **kept_fields,
        )
        self.report("Prompt", f"'{prompt.name}' is now at version {prompt.version}.")

    @row_action("v", "Versions", "The versions of the prompt")
    async def versions(self, prompt: Prompt) -> None:
        self.app.push_screen(PromptVersionsScreen(self.services, prompt.name))

    @row_action(
        "t",
        "Try cases",
        "Ask a model with each of the prompt's cases",
        when=lambda prompt: prompt.cases,
        footer=False,
    )
    async def evaluate(self, prompt: Prompt) -> None:
        answers = await self.ask(
            Form(
                f"Test {len(prompt.cases)} cases of {one_line(prompt.name)}",
                Field("model", "Model", "default"),
            )
        )
        if answers is None:
            return
        run = await self.client.prompts.evaluate(
            prompt.id or prompt.name, answers["model"], version=prompt.version
        )
        passed_count = run.result_counts.get("passed", 0)
        self.report(
            prompt.name, run.error or f"{passed_count} of {run.items} answers passed: see the Evals screen."
        )

    @row_action("x", "Export", "Write the prompt to a file, also in formats of other tools", footer=False)
    async def export(self, prompt: Prompt) -> None:
        answers = await self.ask(
            Form(
                f"Export {one_line(prompt.name)}",
                Field("format", "Format", FORMATS[0], choices=FORMATS, check=_format),
                Field("folder", "Local folder", ".", check=local_path),
            )
        )
        if answers is None:
            return
        exported_prompt = await self.client.prompts.export(
            prompt.id or prompt.name, _format(answers["format"]), version=prompt.version
        )
        await self.write_file(
            local_path(answers["folder"]) / exported_prompt.filename, exported_prompt.text.encode()
        )

    @action("i", "Import", "Import the prompts in a file, a folder or a Git repository")
    async def load(self) -> None:
        source = Field("source", "A local file or folder, or a Git repository over https")
        answers = await self.ask(Form("Import prompts", source))
        if answers is None:
            return
        place = answers["source"]
        if "://" in place:
            result = await self.client.prompts.load(url=place)
        else:
            path = local_path(place)
            result = await self.client.prompts.load(prompt_files(path), origin=str(path.absolute()))
        counts = (
            f"{len(result.added)} added, {len(result.changed)} changed, {len(result.unchanged)} unchanged"
        )
        self.report("Import", counts)

    @row_action("d", "Remove", "Delete the prompt with all its versions")
    async def remove_prompt(self, prompt: Prompt) -> None:
        if await self.sure(f"Forget '{one_line(prompt.name)}' with all its versions?", "Forget"):
            await self.client.prompts.remove(prompt.name)


class PromptVersionsScreen(SublistScreen[Prompt]):
    """The versions of a prompt, newest first."""

    MODE = "prompts"
    TAB = "Prompts"
    COLUMNS = (
        TableColumn[Prompt](
            "VERSION", lambda version: version.version, "bold", sort=lambda version: version.version
        ),
        TableColumn[Prompt](
            "SINCE", lambda version: clock(version.created_at), "dim", sort=lambda version: version.created_at
        ),
        TableColumn[Prompt]("FROM", lambda version: version.origin or "written here"),
    )
    EMPTY = "No versions."

    def __init__(self, services: AppServices, name: str) -> None:
        super().__init__(services, f"Versions of {name}")
        self._prompt_name = name

    async def find(self) -> Sequence[Prompt]:
        return await self.client.prompts.history(self._prompt_name)

    def identify(self, item: Prompt) -> str:
        return str(item.version)

    def detail(self, item: Prompt) -> Iterable[Content | str]:
        return _lines(item.messages)


def _lines(messages: Sequence[Mapping[str, str]]) -> Iterable[Content | str]:
    for message in messages:
        yield Content.styled(one_line(message["role"]), "dim")
        yield safe(message["content"])


def _schema(prompt: Prompt) -> Schema:
    """Return the JSON schema for the arguments of a prompt."""
    properties = {}
    for argument in prompt.arguments:
        argument_schema = {
            name: argument[name] for name in ("type", "description", "enum", "default") if argument.get(name)
        }
        properties[argument["name"]] = argument_schema
    required_names = [argument["name"] for argument in prompt.arguments if argument.get("required")]
    return {"type": "object", "properties": properties, "required": required_names}
