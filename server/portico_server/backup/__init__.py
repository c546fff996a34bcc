"""Backups: a home folder as one archive, copied while the daemon serves, and restored completely or not at all.

An archive has the layout of a home: ``portico.db``, ``blobs/``, ``artifacts/``, ``adapters/``, ``finetuned/``, on
request ``models/``, and a ``manifest.json`` with a SHA-256 of each. Indexes are derived and rebuilt. May import db and
archives.
"""
