"""The aliases of a configuration and their canaries, under the key ``aliases``."""

from __future__ import annotations

from portico_server.core.configuration_document import ConfigurationDocument
from portico_server.core.errors import InvalidRequest
from portico_server.features.canaries.spec import AliasSpec, parse_alias


def read(document: ConfigurationDocument) -> tuple[AliasSpec, ...]:
    """Return the aliases of a configuration. Raise `InvalidRequest` if a model in it also defines the alias."""
    alias_specs = document.read_each("aliases", parse_alias)
    models = document.top.get("models")
    for model in models if isinstance(models, list) else ():
        model_aliases = model.get("aliases") if isinstance(model, dict) else None
        for number, alias in enumerate(alias_specs):
            if isinstance(model_aliases, list) and alias.name in model_aliases:
                raise InvalidRequest(
                    f"aliases[{number}]: '{alias.name}' is also an alias of the model '{model.get('name')}'. "
                    "Remove it from the model.",
                    param=f"aliases[{number}].name",
                )
    return alias_specs
