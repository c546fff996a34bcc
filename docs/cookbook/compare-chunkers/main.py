"""Cut one document in several ways, before anything is indexed, and compare."""

from pathlib import Path

from portico import Client

STRATEGIES = ("auto", "clause", {"type": "sentence", "size": 120, "overlap": 0})

with Client() as client:
    print(f"{'chunker':<10}{'chunks':>7}{'shortest':>10}{'longest':>9}  second chunk begins")
    for cut in client.chunkers.preview(Path("rules.txt"), *STRATEGIES):
        begins = cut.chunks[1].text.splitlines()[0] if cut.total > 1 else "-"
        print(f"{cut.strategy['type']:<10}{cut.total:>7}{cut.shortest:>10}{cut.longest:>9}  {begins[:40]}")
