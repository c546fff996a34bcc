"""The tables of files and stores: the indexed content and its chunks. See `portico_server.db.schema`."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    false,
)

from portico_server.db.metadata import metadata

files = Table(
    "files",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String),
    Column("filename", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Index("ix_files_sha256", "sha256"),
    Index("ix_files_owner_created_at", "owner", "created_at"),
    Index("ix_files_expires_at", "expires_at"),
)

stores = Table(
    "stores",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("description", String, nullable=False, default=""),
    Column("owner", String),
    # Owner and name as one value if clients use the store's name to refer to it, see db/names. Null: the name
    # is only a title, and clients use the id.
    Column("claim", String),
    Column("folder", String),
    # Whether the store also answers as a chat app with the store's name, which is listed among the models.
    Column("app", Boolean, nullable=False, default=False),
    # How the store's app answers: auto (depending on the known or tested ability of its model), write or
    # quote.
    Column("answers", String, nullable=False, default="auto", server_default="auto"),
    Column("embedding_model", String, nullable=False),
    # The model whose vectors are being computed; it replaces embedding_model when they are complete.
    Column("next_embedding_model", String),
    # Whether changes in the folder are ignored until a user resumes the store.
    Column("paused", Boolean, nullable=False, default=False, server_default=false()),
    Column("metadata", JSON, nullable=False),
    Column("expires_after_days", Integer),
    Column("last_active_at", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("last_change", Integer, nullable=False, default=0),
    # The source that the store mirrors instead of a folder: an address and its kind. Null: no source other
    # than a folder.
    Column("source", JSON),
    # Whether the store keeps files that were removed from the source.
    Column("keep_removed", Boolean, nullable=False, default=False, server_default=false()),
    # How the store's app searches, see ``check_search``; null: the default search.
    Column("search", JSON),
    # The measured weight of the vectors in the ranking; null: the weight in the embedding model's profile.
    Column("vector_weight", Float),
    # Whether the store's chunks are linked by the names in them, see the table ``links``.
    Column("links", Boolean, nullable=False, default=False, server_default=false()),
    # The last chunk whose links were created or removed after a change of ``links``. Null: no work remains.
    Column("linked_to", Integer),
    # What happens to changes that turn answers of guard questions wrong: hold, warn or off.
    Column("guard", String, nullable=False, default="hold", server_default="hold"),
    # Whether changed files wait for their check or for a decision, see the column ``review`` of the files.
    Column("has_review", Boolean, nullable=False, default=False, server_default=false()),
    # Where the store's vectors are searched, see db/pgvector.
    Column("index", String, nullable=False, default="embedded", server_default="embedded"),
    # The index that is being filled; it replaces ``index`` when it is complete.
    Column("next_index", String),
    # Who may read the files that the store mirrors: null (all readers of the store), "source" (by the rights at the
    # source), or groups by the beginnings of file names.
    Column("rights", JSON),
    # The key whose facts agents remember in the store; ``*`` for several keys. Null: the store has no facts.
    Column("facts_of", String),
    Index("ix_stores_name", "name"),
    Index("ix_stores_claim", "claim", unique=True),
    Index("ix_stores_owner", "owner", "id"),
)

# Files that the last sync of a store skipped: how many for each reason, and the first names.
store_skips = Table(
    "store_skips",
    metadata,
    Column(
        "store_id",
        String,
        ForeignKey("stores.id", ondelete="CASCADE", name="fk_store_skips_store_id_stores"),
        primary_key=True,
    ),
    Column("reasons", JSON, nullable=False),
    Column("names", JSON, nullable=False),
    Column("looked_at", Float, nullable=False),
)

store_files = Table(
    "store_files",
    metadata,
    Column("store_id", String, ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True),
    Column("file_id", String, ForeignKey("files.id", ondelete="CASCADE"), primary_key=True),
    Column("status", String, nullable=False),
    Column("error_code", String),
    Column("error_message", String),
    Column("attributes", JSON, nullable=False),
    Column("chunking", JSON, nullable=False),
    Column("usage_bytes", BigInteger, nullable=False, default=0),
    Column("created_at", Float, nullable=False),
    # The state of the file in the followed folder at the last read; null for uploaded files.
    Column("source_mtime_ns", BigInteger),
    Column("source_size", BigInteger),
    # While a change is under review: new (searches leave the file out until the change is accepted) or old
    # (searches find the file until then). Otherwise empty.
    Column("review", String, nullable=False, default="", server_default=""),
    # Sets of groups, as lists: a caller of a store with rights needs a group of each set. Null: nobody may read the
    # file.
    Column("readers", JSON),
    Index("ix_store_files_file_id", "file_id"),
    Index("ix_store_files_store_id_status", "store_id", "status"),
)

# Former versions of the facts that agents remember. The current version is a file; the versions follow it to the next
# file when the fact changes, and are deleted with it.
fact_versions = Table(
    "fact_versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("file_id", String, ForeignKey("files.id", ondelete="CASCADE"), nullable=False),
    Column("text", Text, nullable=False),
    Column("attributes", JSON, nullable=False),
    # When the version became current, and when and why it stopped being so.
    Column("changed_at", Float, nullable=False),
    Column("ended_at", Float, nullable=False),
    Column("reason", String, nullable=False),
    Index("ix_fact_versions_file_id", "file_id"),
)

# Questions that must keep their answers when the files of a store change.
guard_questions = Table(
    "guard_questions",
    metadata,
    Column("id", String, primary_key=True),
    Column("store_id", String, ForeignKey("stores.id", ondelete="CASCADE"), nullable=False),
    # The id of the key that wrote the question; its webhooks are notified of changes under review.
    Column("author", String, nullable=False),
    Column("question", Text, nullable=False),
    Column("file", String, nullable=False),
    Column("passage", Text, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    # The last judgement: whether the answer was among the hits, and the ids of the files with the hits.
    Column("passes", Boolean, nullable=False),
    Column("hit_files", JSON, nullable=False),
    Index("ix_guard_questions_store_id", "store_id"),
)

# The last check of each store's changes with the guard questions. No row: the files changed after the last check.
store_reviews = Table(
    "store_reviews",
    metadata,
    Column("store_id", String, ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True),
    Column("id", String, nullable=False),
    Column("state", String, nullable=False),
    Column("report", JSON, nullable=False),
    # The judgements that the questions get when the change is accepted.
    Column("judgements", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

# Files that were attached together, and whose status clients query together.
file_batches = Table(
    "file_batches",
    metadata,
    Column("id", String, primary_key=True),
    Column("store_id", String, ForeignKey("stores.id", ondelete="CASCADE"), nullable=False),
    Column("file_ids", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("cancelled_at", Float),
    Index("ix_file_batches_store_id", "store_id"),
)

chunks = Table(
    "chunks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("store_id", String, nullable=False),
    Column("file_id", String, nullable=False),
    Column("group_name", String, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("place", JSON, nullable=False),
    # Covering index for all queries of a store's chunks, except for the text.
    Index("ix_chunks_store_id_file_id_group_name_ordinal", "store_id", "file_id", "group_name", "ordinal"),
    sqlite_autoincrement=True,
)

vectors = Table(
    "vectors",
    metadata,
    Column("chunk_id", Integer, ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True),
    Column("model", String, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

# The names in each chunk. Two chunks that contain the same term are linked. ``term`` is a hash of the store
# and the name.
links = Table(
    "links",
    metadata,
    Column("term", BigInteger, primary_key=True, autoincrement=False),
    Column("chunk_id", Integer, ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", SmallInteger, nullable=False),
    Column("weight", SmallInteger, nullable=False),
    # Covers all queries of a chunk's links: in a table without row ids, every index entry ends with the
    # primary key, which contains the term.
    Index("ix_links_chunk_id", "chunk_id", "kind", "weight"),
    sqlite_with_rowid=False,
)

# The ordered log of changes to each store. Each index stores the number of the last change that it applied,
# and continues from there.
changes = Table(
    "changes",
    metadata,
    Column("store_id", String, ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("op", String, nullable=False),
    Column("file_id", String, nullable=False),
    # The first and last chunk that this change added or removed; the ids are contiguous. Null if there are
    # none.
    Column("first_chunk", Integer),
    Column("last_chunk", Integer),
    Column("group_name", String, nullable=False, default="chunk", server_default="chunk"),
)

# Additional chunk groups of a store, besides the group "chunk", which every store has.
groups = Table(
    "groups",
    metadata,
    Column("store_id", String, ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("parent", String, nullable=False),
    Column("chunking", JSON, nullable=False),
    # Null: the store's model. Empty: no model, words only.
    Column("embedding_model", String),
    Column("created_at", Float, nullable=False),
)

# Files whose chunks a group contains. A row is written together with the last chunks of the file.
group_files = Table(
    "group_files",
    metadata,
    Column("store_id", String, primary_key=True),
    Column("group_name", String, primary_key=True),
    Column("file_id", String, primary_key=True),
    Column("error", String),
    ForeignKeyConstraint(
        ["store_id", "group_name"],
        ["groups.store_id", "groups.name"],
        name="fk_group_files_group",
        ondelete="CASCADE",
    ),
    ForeignKeyConstraint(
        ["store_id", "file_id"],
        ["store_files.store_id", "store_files.file_id"],
        name="fk_group_files_file",
        ondelete="CASCADE",
    ),
)
