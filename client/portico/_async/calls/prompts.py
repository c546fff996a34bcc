# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.prompts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portico._async.group import Group
from portico._request import without_none
from portico.schemas.prompts import ImportedPrompts, Prompt


class Prompts(Group):
    """The prompt library, with versioned prompts and typed arguments."""

    async def list(
        self,
        *,
        everyone: bool | None = None,
        limit: int | None = None,
        after: str | None = None,
        query: str | None = None,
    ) -> Sequence[Prompt]:
        """List the newest version of each prompt, by name; without ``limit`` all of them.

        If ``has_more`` is true, pass ``last_id`` as ``after`` to get the next page. ``query``: only prompts
        whose names contain this text.

        ``everyone``: For admins: include the prompts of other keys, listed by id.
        """
        return await self._transport.request(
            "GET",
            "/api/prompts",
            list[Prompt],
            query=without_none(all=everyone, limit=limit, after=after, query=query),
        )

    async def load(
        self,
        files: Mapping[str, str] | None = None,
        *,
        url: str | None = None,
        origin: str | None = None,
        dry_run: bool | None = None,
    ) -> ImportedPrompts:
        """Import prompts from files, or from a Git repository (``admin`` only). All of them are imported, or
        none.

        Prompts to import: ``files``, which maps paths to texts, or ``url``, the https address of a Git
        repository.
        """
        return await self._transport.request(
            "POST",
            "/api/prompts/import",
            ImportedPrompts,
            json=without_none(files=files, url=url, origin=origin, dry_run=dry_run),
            slow=True,
        )
