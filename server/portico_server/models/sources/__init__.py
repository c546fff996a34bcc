"""Sources of models: `parse` reads a source, `ModelFetcher` downloads it into the models folder.

Light at import; the parts that download (`hub`, `download`) import aiohttp and are loaded on first use. Can import
`core`, `settings` and `engines.gguf`.
"""

from portico_server.models.sources.fetcher import ModelFetcher, Progress
from portico_server.models.sources.source import MISSING_FILE_CODE, ModelSource, parse_source, require_file

__all__ = ["MISSING_FILE_CODE", "ModelFetcher", "ModelSource", "Progress", "parse_source", "require_file"]
