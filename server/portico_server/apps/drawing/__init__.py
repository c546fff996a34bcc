"""Apps as pictures: what they are made of, written as Mermaid or drawn as SVG; and how long the steps of a run took.

May import the specifications of flows and agents, and `core`.
"""
