"""Where models come from: `parse` reads a source, `Fetcher` brings it into the models folder.

Light at import; the parts that download (`hub`, `download`) import aiohttp and are loaded on first use.
May import `core`, `settings` and `engines.gguf`.
"""

from portico_server.engines.sources.fetcher import Fetcher, Progress
from portico_server.engines.sources.source import Source, parse

__all__ = ["Fetcher", "Progress", "Source", "parse"]
