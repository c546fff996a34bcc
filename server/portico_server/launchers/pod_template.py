"""The administrator's template of Pods: where and with which priority they run. Portico sets everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.untrusted_yaml import InvalidYaml, read_yaml

SPEC_FIELDS: Final[Mapping[str, type]] = {
    "affinity": dict,
    "imagePullSecrets": list,
    "nodeSelector": dict,
    "priorityClassName": str,
    "runtimeClassName": str,
    "schedulerName": str,
    "serviceAccountName": str,
    "tolerations": list,
    "topologySpreadConstraints": list,
}
"""Fields of a Pod's specification that a template can set, and their types. Others could weaken a Pod's isolation."""

METADATA_FIELDS: Final[Mapping[str, type]] = {"annotations": dict, "labels": dict}

_PARTS: Final[Mapping[str, type]] = {"metadata": dict, "spec": dict}
_SETTING: Final = "kubernetes_template"
_TYPE_NAMES: Final[Mapping[type, str]] = {dict: "a mapping", list: "a list", str: "a text"}


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """``labels`` and ``annotations`` of the Job and its Pod, and ``spec``, the fields of the Pod's specification."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)


def read_pod_template(path: Path) -> PodTemplate:
    """Return the template in a YAML file. Raise `InvalidRequest` with the field that cannot be used."""
    try:
        document = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, InvalidYaml) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise _invalid(f"The file {path} of the setting '{_SETTING}' cannot be read: {reason}.") from error
    if not isinstance(document, dict):
        raise _invalid(f"The file {path} must contain a mapping with 'metadata' or 'spec'.")
    _check(document, _PARTS, "")
    metadata, spec = document.get("metadata", {}), document.get("spec", {})
    _check(metadata, METADATA_FIELDS, "metadata.")
    _check(spec, SPEC_FIELDS, "spec.")
    return PodTemplate(metadata.get("labels", {}), metadata.get("annotations", {}), spec)


def _check(values: Mapping[str, Any], types: Mapping[str, type], at: str) -> None:
    for name, value in values.items():
        if name not in types:
            raise _invalid(
                f"The setting '{_SETTING}' cannot set '{at}{name}'.{nearest(name, types)} A template can set "
                f"{', '.join(types)}."
            )
        if not isinstance(value, types[name]):
            raise _invalid(f"'{at}{name}' of the setting '{_SETTING}' must be {_TYPE_NAMES[types[name]]}.")


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="setting_invalid", param=_SETTING)
