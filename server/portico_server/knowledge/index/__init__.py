"""The derived indexes of a store: tantivy for words, NumPy or Voyager for vectors. SQL can rebuild them.

May import db and core. `manager` is light; the indexes that it opens import the heavy packages.
"""
