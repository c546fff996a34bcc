"""``POST /v1/rerank``: rank texts by how well they answer a question, in the format of Jina and Cohere.

Source: https://docs.cohere.com/reference/rerank, https://jina.ai/reranker.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.openai.relay import find
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.request import Ranked, Rerank

router = new_router(tags=["Models"])

MAX_DOCUMENTS = 1_000
"""Maximum number of documents in one request."""


class RerankRequest(BaseModel):
    """A question, and texts (or objects with a ``text``) to rank by how well they answer it.

    ``model`` may be omitted if the caller has only one reranker.
    """

    model: str | None = None
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[list[str | dict[str, Any]], Field(min_length=1, max_length=MAX_DOCUMENTS)]
    top_n: Annotated[int | None, Field(ge=1)] = None
    return_documents: bool = False


class RankedDocument(BaseModel):
    """A document, identified by its ``index`` in the request, and its score in [0, 1]."""

    index: int
    relevance_score: float
    document: dict[str, Any] | None = None


class RankedUsage(BaseModel):
    """Number of tokens read."""

    prompt_tokens: int
    total_tokens: int


class Ranking(BaseModel):
    """The documents, best first."""

    object: str = "list"
    model: str
    results: list[RankedDocument]
    usage: RankedUsage


@router.post("/v1/rerank", response_model_exclude_none=True)
async def create_rerank(body: RerankRequest, services: TheServices, caller: Caller) -> Ranking:
    """Rank documents by how well they answer a question."""
    texts = tuple(_text(document, number) for number, document in enumerate(body.documents))
    name = body.model
    if name is None:
        name = await services.registry.only_model("rerank", caller)
    await find(services, name, "rerank", caller)
    result = await services.runner.call("rerank", name, Rerank(body.query, texts, body.top_n), caller)
    if not isinstance(result, Ranked):
        raise PorticoError(f"'{name}' did not answer the rerank request with a ranking.")
    return Ranking(
        model=result.model or name,
        results=[
            RankedDocument(
                index=index,
                relevance_score=score,
                document={"text": texts[index]} if body.return_documents else None,
            )
            for index, score in result.results
        ],
        usage=RankedUsage(prompt_tokens=result.usage.prompt_tokens, total_tokens=result.usage.prompt_tokens),
    )


def _text(document: str | dict[str, Any], number: int) -> str:
    text = document if isinstance(document, str) else document.get("text")
    if not isinstance(text, str):
        raise InvalidRequest(
            f"'documents[{number}]' must be a string, or an object with a 'text'.",
            param=f"documents[{number}]",
        )
    return text
