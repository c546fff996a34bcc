"""Packages deployed apps: `AppPackages` finds what an app needs, `AppPackage` is the result as a streamed archive."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson

from portico.schemas.packages import PackagedContents
from portico_server import __version__
from portico_server.archives.stream import BLOCK_BYTES, ArchiveStream, Blocks, once
from portico_server.core import pools
from portico_server.core.errors import Unavailable
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.features.agents.app import AgentApps
from portico_server.features.apps.deployed import DeployedApps
from portico_server.features.mcp_servers.host import McpHost
from portico_server.features.package import targets, wheel
from portico_server.features.package.contents import ContentsFinder, PackageContents
from portico_server.features.package.document import (
    DocumentWriter,
    PackageDocument,
    archive_of,
    skill_archive_of,
)
from portico_server.features.package.request import PackageRequest
from portico_server.features.package.targets import PackageFacts
from portico_server.features.prompts.library import PromptLibrary
from portico_server.features.skills.library import SkillLibrary, StoredSkill
from portico_server.features.stores.store import StoreView
from portico_server.features.stores.stores import StoreService
from portico_server.features.tools.sources.sources import AddedTools
from portico_server.models.service import ModelService
from portico_server.settings import Settings

PACKAGE_FORMAT: Final = "portico-package"

PACKAGE_VERSION: Final = 1

MANIFEST_NAME: Final = "MANIFEST.json"


class AppPackages:
    """Packages apps. Nothing is stored: each package is created while it is sent."""

    def __init__(
        self,
        registry: Registry,
        models: ModelService,
        stores: StoreService,
        tools: AddedTools,
        mcp: McpHost,
        prompts: PromptLibrary,
        apps: DeployedApps,
        agents: AgentApps,
        skills: SkillLibrary,
        settings: Settings,
    ) -> None:
        self._parts = (registry, models, stores, tools, mcp, prompts, apps, agents, skills)
        self._models = models
        self._stores = stores
        self._skills = skills
        self._settings = settings

    async def prepare(self, name: str, request: PackageRequest, caller: Principal) -> AppPackage:
        """Return the package of an app that ``caller`` can deploy, ready to send.

        Raise `NotFound` for a missing name or version, `Forbidden`, `InvalidRequest` (also for a store that is too
        large for an archive), and `Conflict` if a part of the app cannot be used on another daemon.
        """
        if (
            request.models == "include"
        ):  # local files belong to the operator, even if other callers can use the model
            caller.require("admin")
        request.options.check()
        contents = await ContentsFinder(*self._parts, caller).find(name, request.version, request.include)
        writer = DocumentWriter(
            contents,
            self._models,
            self._settings,
            include_models=request.models == "include",
            stores=request.stores,
            admin=caller.admin,
        )
        document = await pools.FILES.run(writer.write)
        if request.stores != "reference":
            for store in contents.stores.values():
                await self._stores.portable.require_portable(store.row)
        for skill in contents.skills.values():
            if (
                caller.admin or skill.row.owner is None
            ):  # the texts in `DocumentWriter` have the same condition
                await pools.FILES.run(_require_no_secret, document, skill, await self._skills.files(skill))
        return AppPackage(contents, document, request, self._stores, self._skills)


def _require_no_secret(document: PackageDocument, skill: StoredSkill, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        place = f"The file '{path}' of the skill '{skill.name}'"
        document.references.require_absent(place, data.decode(errors="replace"))


class AppPackage:
    """One package. `plan` lists its contents, `pieces` yields the archive."""

    def __init__(
        self,
        contents: PackageContents,
        document: PackageDocument,
        request: PackageRequest,
        stores: StoreService,
        skills: SkillLibrary,
    ) -> None:
        self._contents = contents
        self._document = document
        self._request = request
        self._stores = stores
        self._skills = skills
        for name, purpose in targets.variables_of(request.targets, request.options).items():
            document.references.add(name, purpose)

    @property
    def filename(self) -> str:
        """Return a file name for the archive."""
        version = f"-{self._contents.version}" if self._contents.version else ""
        return f"{self._contents.name}{version}.zip"

    def plan(self) -> PackagedContents:
        """Return the contents of the package."""
        package_contents = self._contents
        return PackagedContents(
            app=package_contents.name,
            kind=package_contents.kind,
            version=package_contents.version,
            digest=package_contents.digest,
            portico=__version__,
            models=tuple(
                {**model, "aliases": list(package_contents.aliases.get(model["name"], ()))}
                for model in self._document.models
            ),
            stores=tuple(
                {
                    "name": name,
                    "files": package_contents.stores[name].files,
                    "app": package_contents.stores[name].app,
                    "how": self._request.stores,
                }
                for name in sorted(package_contents.stores)
            ),
            tools=tuple(sorted({*package_contents.tools, *package_contents.builtin})),
            mcp=tuple(sorted(package_contents.servers)),
            prompts=tuple(
                {"name": name, "version": package_contents.prompts[name].version}
                for name in sorted(package_contents.prompts)
            ),
            apps=tuple(
                {
                    "name": name,
                    "kind": app.row.kind,
                    "version": app.version.version,
                    "digest": app.version.digest,
                }
                for name, app in sorted(package_contents.apps.items())
            ),
            skills=tuple(
                {
                    "name": name,
                    "version": skill.version.version,
                    "files": len(skill.version.files),
                    "sha256": skill.version.sha256,
                }
                for name, skill in sorted(package_contents.skills.items())
            ),
            variables=dict(sorted(self._document.references.purposes.items())),
            notes=tuple(package_contents.notes),
            files=(
                *sorted(
                    {
                        *self._texts(""),
                        *self._files(),
                        *self._archives(),
                        *self._skill_archives(),
                        *_installation(),
                    }
                ),
                MANIFEST_NAME,
            ),
        )

    def _texts(self, digest: str) -> dict[str, str]:
        """Return the entries that are generated; ``digest`` is the digest of the installation."""
        facts = PackageFacts(
            self._contents.name, self._contents.version, __version__, tuple(self._contents.notes), digest
        )
        app_texts = {f"app/{name}": text for name, text in self._document.texts.items()}
        return {
            ".env.example": self._document.references.example(),
            "app/portico.yaml": self._document.yaml,
            **app_texts,
            **targets.files_of(self._request.targets, facts, self._request.options),
        }

    def _files(self) -> dict[str, Path]:
        return {f"app/{name}": path for name, path in self._document.files.items()}

    def _archives(self) -> dict[str, StoreView]:
        if self._request.stores == "reference":
            return {}
        return {f"app/{archive_of(name)}": store.row for name, store in self._contents.stores.items()}

    def _skill_archives(self) -> dict[str, StoredSkill]:
        return {f"app/{skill_archive_of(name)}": skill for name, skill in self._contents.skills.items()}

    async def pieces(self) -> Blocks:
        """Yield the archive from its first byte to its last; equal contents yield equal bytes.

        Raise `Unavailable` if bytes of a store or a model disappear while the archive is created, and `NotFound` if a
        skill disappears.
        """
        requirements = await pools.FILES.run(wheel.requirements)
        wheel_data = await pools.FILES.run(wheel.wheel)
        digest = hashlib.sha256(requirements + wheel_data).hexdigest()
        texts, files, archives = self._texts(digest), self._files(), self._archives()
        skills = self._skill_archives()
        contents = {name: text.encode() for name, text in texts.items()}
        contents |= dict(zip(_installation(), (requirements, wheel_data), strict=True))
        archive = ArchiveStream()
        try:
            for name in sorted({*contents, *files, *archives, *skills}):
                if name in contents:
                    blocks = once(contents[name])
                elif name in files:
                    blocks = _read(files[name])
                elif name in skills:
                    blocks = once(await self._skills.archive(skills[name]))
                else:
                    blocks = _pass_on(self._stores.portable.export(archives[name]))
                is_stored = name.endswith((".zip", ".whl")) or name.startswith(
                    ("app/models/", "app/adapters/")
                )
                async with aclosing(archive.entry(name, blocks, is_stored=is_stored)) as pieces:
                    async for piece in pieces:
                        yield piece
            manifest = {
                "format": PACKAGE_FORMAT,
                "format_version": PACKAGE_VERSION,
                **{key: value for key, value in asdict(self.plan()).items() if key != "files"},
                "targets": sorted(self._request.targets),
                "sha256": archive.sums,
            }
            data = orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n"
            async for piece in archive.entry(MANIFEST_NAME, once(data)):
                yield piece
            yield await archive.end()
        finally:
            archive.close()  # even if the client has left


def _installation() -> tuple[str, str]:
    """Return the names of the entries from which Portico is installed on the other machine. Blocks on its first
    call.
    """
    return "requirements.lock", f"wheels/{wheel.wheel_name()}"


async def _pass_on(pieces: AsyncIterator[bytes]) -> Blocks:
    async for piece in pieces:
        yield piece


async def _read(path: Path) -> Blocks:
    try:
        with await pools.FILES.run(path.open, "rb") as file:
            while block := await pools.FILES.run(file.read, BLOCK_BYTES):
                yield block
    except OSError as error:
        raise Unavailable(f"{path} can no longer be read: {error.strerror}.", code="file_missing") from error
