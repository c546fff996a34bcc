"""Texts as vectors, the nearest ones by cosine, and a reranker that reads question and text together."""

from portico import Client

TEXTS = [
    "The ferry to the island leaves at nine.",
    "The island has one inn.",
    "Bread is baked at 230 degrees.",
    "Tickets for the ferry are sold on board.",
]
QUESTION = "When does the ferry leave?"


def cosine(one, other):
    """How near two vectors are, from -1 to 1."""
    length = (sum(a * a for a in one) * sum(b * b for b in other)) ** 0.5
    return sum(a * b for a, b in zip(one, other, strict=True)) / length


with Client() as client:
    question, *vectors = client.embed([QUESTION, *TEXTS], dimensions=32).data
    print(len(vectors), "vectors of", len(question))
    nearest = sorted(range(len(TEXTS)), key=lambda number: -cosine(question, vectors[number]))
    print("by vectors: ", [TEXTS[number] for number in nearest[:2]])
    ranked = client.rerank(QUESTION, TEXTS, "ranker", top_n=2)
    print("by reranker:", [TEXTS[document.index] for document in ranked])
