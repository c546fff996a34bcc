# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.prompts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portico._request import given
from portico._sync.group import Group
from portico.schemas.prompts import ImportedPrompts, Prompt


class Prompts(Group):
    """The prompt library: versioned prompts with typed arguments."""

    def list(self, *, everyone: bool | None = None) -> Sequence[Prompt]:
        """The newest version of each prompt, by name.

        ``everyone``: For an admin: other keys' prompts too, by their ids.
        """
        return self._transport.request("GET", "/api/prompts", list[Prompt], query=given(all=everyone))

    def load(
        self,
        files: Mapping[str, str] | None = None,
        *,
        url: str | None = None,
        origin: str | None = None,
        dry_run: bool | None = None,
    ) -> ImportedPrompts:
        """Keep the prompts of files, or of a Git repository, which is for ``admin`` alone. All of them, or none.

        Prompts to import: ``files``, from their path to their text, or ``url``, a Git repository on https.
        """
        return self._transport.request(
            "POST",
            "/api/prompts/import",
            ImportedPrompts,
            json=given(files=files, url=url, origin=origin, dry_run=dry_run),
            slow=True,
        )
