"""The derived indexes of a store: tantivy for words, NumPy or Voyager for vectors. They can be rebuilt from SQL.

`manager` is light; the indexes that it opens import the heavy packages.
"""
