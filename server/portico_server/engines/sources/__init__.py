"""Where models come from: `parse` reads a source, `Fetcher` brings it into the models folder.

Light at import; the parts that download (`hub`, `download`) import aiohttp and are loaded on first use.
May import `core`, `settings` and `engines.gguf`.
"""

from portico_server.engines.sources.fetcher import Fetcher, Progress
from portico_server.engines.sources.source import MISSING_FILE, Source, parse, require_file

__all__ = ["MISSING_FILE", "Fetcher", "Progress", "Source", "parse", "require_file"]
