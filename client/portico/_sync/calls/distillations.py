# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.distillations`."""

from __future__ import annotations

from portico._request import at, check_path_name, without_none
from portico._sync.group import Group
from portico.schemas.distillations import Distillation


class Distillations(Group):
    """For admins. A distillation tunes a small model with the stored chats of an alias, and sets a canary for it."""

    def start(
        self,
        alias: str,
        onto: str,
        *,
        agreement: float | None = None,
        weight: float | None = None,
        sample: float | None = None,
        epochs: int | None = None,
        rate: float | None = None,
    ) -> str:
        """Tune a small model with the stored chats of an alias, compare it with the stored answers that are held
        back, and put it behind the alias as a canary. Return the id of the durable run that does this.

        A distillation to start. ``onto`` is the small model to tune, for ``epochs`` passes, with the recipe's
        learning rate times ``rate``.

        ``agreement`` is the minimum agreement of its answers with the stored answers, where it is sure. The
        result gets the share ``weight`` of the calls until it is promoted, and the share ``sample`` of its
        live answers is compared with the answers of the current target.

        ``agreement``: (default: ``0.95``).

        ``weight``: (default: ``0.2``).

        ``sample``: (default: ``0.05``).
        """
        return self._transport.request(
            "POST",
            at("api", "distillations", check_path_name(alias, "an alias")),
            str,
            json=without_none(
                onto=onto, agreement=agreement, weight=weight, sample=sample, epochs=epochs, rate=rate
            ),
            key="run",
        )

    def get(self, alias: str) -> Distillation:
        """Return the newest distillation of an alias, and what it has saved."""
        return self._transport.request(
            "GET", at("api", "distillations", check_path_name(alias, "an alias")), Distillation
        )
