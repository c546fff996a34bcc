"""Apps as diagrams: their parts, as Mermaid or SVG, and how long the steps of a run took."""
