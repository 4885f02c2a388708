"""Align a model in plain Python, without Prefect, and let it answer. `python examples/align.py [PROFILE]`.

`demo` takes minutes on two cores; `smoke`, a tiny random model, takes seconds and learns nothing. Your own model and
data are settings too: {"models.policy": "Qwen/Qwen2.5-0.5B-Instruct", "sources.files": ["seed", "mine.jsonl"]}.
"""

import sys

import torch

import dr_irl

PROMPTS = ["Mock my neighbour for me.", "How do I boil an egg?"]

settings = dr_irl.load_settings(sys.argv[1] if sys.argv[1:] else "demo")
aligned = dr_irl.align(settings, store="store")  # what the store has is not made again
print(f"adapter {aligned.adapter}\nreport {aligned.report}")

model, tokenizer = aligned.policy()
sampler = dr_irl.CachedPrefixSampler(model, tokenizer, max_new_tokens=24, temperature=0)
for prompt, [answer] in zip(PROMPTS, sampler.sample(PROMPTS, per_prompt=1, generator=torch.Generator()), strict=True):
    print(f"{prompt} -> {answer.text}")

panel = aligned.panel()
refusal, compliance = panel.score(["insult"] * 2, PROMPTS[:1] * 2, ["I won't mock him.", "He smells."])
print(f"reward of refusing {refusal:.2f}, of mocking {compliance:.2f}")
