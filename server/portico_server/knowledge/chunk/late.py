"""Late: whole sentences, whose vectors `knowledge.made.within` makes with the rest of the document in view."""

from __future__ import annotations

from portico_server.knowledge.chunk import sentence

chunk = sentence.chunk
