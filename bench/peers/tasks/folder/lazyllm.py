"""Chat over a folder with LazyLLM."""

import json
import os
from pathlib import Path

import lazyllm
from lazyllm import Document, Retriever

QUESTIONS = (
    "At how many degrees is bread baked?",
    "How many mooncakes are made?",
    "When does the bakery close?",
)

url, key = os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"]
embed = lazyllm.OnlineEmbeddingModule(
    source="openai", embed_url=url + "/", embed_model_name="text-embedding-3-small", api_key=key
)
llm = lazyllm.OnlineChatModule(source="openai", model="gpt-4o-mini", base_url=url + "/", api_key=key)
prompt = lazyllm.ChatPrompter("Answer the question from this context alone.", extra_keys=["context_str"])
documents = Document(dataset_path=str(Path("documents").resolve()), embed=embed, manager=False)
documents.create_node_group(name="whole", transform=lambda text: [text])
retriever = Retriever(documents, group_name="whole", similarity="cosine", topk=3)
reader = llm.share(prompt=prompt)
answers = []
for question in QUESTIONS:
    found = retriever(question)
    context = "\n\n".join(node.get_content() for node in found)
    answer = reader({"query": question, "context_str": context})
    best = max(found, key=lambda node: node.similarity_score)
    answers.append({"answer": answer, "source": best.global_metadata["file_name"]})
print(json.dumps(answers))
