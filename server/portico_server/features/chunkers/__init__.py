"""From parts to chunks: pure functions, grouped by the kind of document they split, and the table `chunkers` that
names them.
"""
