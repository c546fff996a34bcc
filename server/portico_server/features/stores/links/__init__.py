"""Links between passages that mention the same terms. Rules find the terms without a model; a graph walk follows the
links.

Imports the database and the analyser of words.
"""
