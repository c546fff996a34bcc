"""The OpenAPI operations of hot paths: FastAPI does not see their requests, so it cannot describe them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from portico_server.api.declarations import OBJECT_CONTENT, TEXT
from portico_server.core.fields import RequestBody

SCHEMA_REFERENCE: Final = "#/components/schemas/{model}"
"""Reference to the schema of a model by its name."""

ERROR_SCHEMA: Final[Mapping[str, str]] = {"$ref": "#/components/schemas/ErrorDocument"}
"""Reference to the schema of an error in OpenAI's format."""


def json_content(shape: type[BaseModel]) -> dict[str, Any]:
    """Return the content of a response with an object of this shape. Its schema carries the schemas that it refers to
    in ``$defs``; the document moves them to its components.
    """
    schema = shape.model_json_schema(ref_template=SCHEMA_REFERENCE, mode="serialization")
    schemas = {**schema.pop("$defs", {}), shape.__name__: schema}
    reference = SCHEMA_REFERENCE.format(model=shape.__name__)
    return {"application/json": {"schema": {"$ref": reference, "$defs": schemas}}}


def operation(
    name: str,
    summary: str,
    *request_body: RequestBody,
    streams: bool = True,
    gives: Mapping[str, Any] = OBJECT_CONTENT,
    protocol: str = "OpenAI",
    tag: str = "OpenAI: models",
    error: Mapping[str, Any] = ERROR_SCHEMA,
) -> dict[str, Any]:
    """Return the path item of a path that answers ``POST`` requests as in another vendor's ``protocol``."""
    content = dict(gives)
    if streams:
        content["text/event-stream"] = {"schema": TEXT}
    body_schemas = {
        "multipart/form-data" if body.files else "application/json": {"schema": body.schema()}
        for body in request_body
    }
    return {
        "post": {
            "tags": [tag],
            "summary": summary,
            "operationId": name,
            "requestBody": {"required": True, "content": body_schemas},
            "responses": {
                "200": {"description": f"As at {protocol}", "content": content},
                "4XX": {
                    "description": f"An error in {protocol}'s format",
                    "content": {"application/json": {"schema": error}},
                },
            },
        }
    }
