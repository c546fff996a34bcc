"""A home folder as one archive: copied while the daemon serves, and made a home again, all of it or nothing.

An archive has the layout of a home: ``portico.db``, ``blobs/``, ``artifacts/``, ``adapters/``, ``finetuned/``, on
request ``models/``, and a ``manifest.json`` with a SHA-256 of each. Indexes are derived and rebuilt. May import db and
archives.
"""
