"""Tokenizes conversations as training does: runs in the environment `finetune`, as ``… FOLDER CONVERSATIONS``."""

from __future__ import annotations

import json
import sys

from child.examples import IGNORED_LABEL_CODE, ChatTemplate
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
template = ChatTemplate(tokenizer)
told = []
for given in json.loads(sys.argv[2]):
    messages, tools = given["messages"], given.get("tools")
    told.append(
        {
            "whole": template.ids(template.text(messages, tools)),
            "prompt": template.ids(template.text(messages[:-1], tools, answer=True)),
            "examples": [
                {
                    **vars(example),
                    "learnt": tokenizer.decode(
                        [label for label in example.labels if label != IGNORED_LABEL_CODE]
                    ),
                }
                for example in template.supervised(messages, tools)
            ],
            "completion": template.completion(messages[:-1], messages[-1:], tools),
        }
    )
print(json.dumps(told))
