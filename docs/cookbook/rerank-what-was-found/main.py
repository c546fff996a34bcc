"""Search, and let a model that reads question and passage together put the result in order."""

from portico import Client

QUESTION = "Which bread is baked without yeast?"

with Client() as client:
    for reranker in (None, "judge"):
        options = {"reranker": reranker} if reranker else {}
        found = client.search("bakery", QUESTION, max_num_results=3, **options)
        print("reranked by judge" if reranker else "words and vectors")
        for passage in found.passages:
            print(f"  {passage.rank} {passage.filename}")
