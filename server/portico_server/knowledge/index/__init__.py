"""The derived indexes of a store: tantivy for words, NumPy or hnswlib for vectors. SQL can rebuild them.

May import db and core. `follow` is light; what it opens imports the heavy packages.
"""
