"""What the self-check of a loaded model costs, once per model and versions; writes results/self_check.json.

python benchmarks/self_check.py
"""

import json
import time
from pathlib import Path

import torch
from timing import machine_facts, spread

from dr_irl.language.load import load_causal_lm, load_reward_backbone
from dr_irl.language.proof.check import find_route

RESULTS = Path(__file__).parent / "results" / "self_check.json"
MODEL = "bundled:smollm2-135m-instruct"
TIMES = 5


def main() -> None:
    """Time the check of the language model and of a backbone of 12 layers."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        models = {
            "language model": load_causal_lm(MODEL, dtype=dtype),
            "backbone": load_reward_backbone(MODEL, depth=12, dtype=dtype),
        }
        for name, model in models.items():
            seconds: list[float] = []
            for _ in range(TIMES):
                start = time.perf_counter()
                route = find_route(model, MODEL)
                seconds.append(time.perf_counter() - start)
            found[f"{name}, {str(dtype).removeprefix('torch.')}"] = spread(seconds) | {
                "scores by": route.scoring.value,
                "samples by": route.decoding.value,
            }
    facts = machine_facts("cpu") | {"model": MODEL, "threads": torch.get_num_threads(), "seconds": found}
    RESULTS.write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
