"""Attention over short rows beside torch's fused kernel, forward and backward; writes results/attention.json.

    python benchmarks/attention.py

One layer of the embedded model, rows as the warm start and GRPO give them: about 1,024 tokens in all and the keys of
22 tokens that all prompts share. Both sides start from the same grouped keys and values.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from timing import in_turns, machine_facts, ratio, spread
from torch import Tensor

from dr_irl.language.attention import grouped_attention

RESULTS = Path(__file__).parent / "results" / "attention.json"
HEADS, GROUPS, SIZE, TOKENS, SHARED = 9, 3, 64, 1024, 22
LENGTHS = (50, 128, 234, 512)
TIMES = 20
"""Of one turn."""


def fused(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, *, scaling: float) -> Tensor:
    """Attend as transformers does with `sdpa`, the keys and values repeated for every head of a group."""
    repeated = (states.repeat_interleave(HEADS // GROUPS, dim=1) for states in (key, value))
    return F.scaled_dot_product_attention(query, *repeated, attn_mask=visible, scale=scaling)


def there_and_back(side: Any, states: list[Tensor], visible: Tensor, upstream: Tensor) -> None:
    """Run one side forward and backward several times."""
    for _ in range(TIMES):
        side(*states, visible, scaling=SIZE**-0.5).backward(upstream)


def measure(length: int, dtype: torch.dtype, turns: int) -> dict[str, Any]:
    """Time both sides at one length of the rows."""
    rows, keys = TOKENS // length, length + SHARED
    shapes = ((rows, HEADS, length, SIZE), (rows, GROUPS, keys, SIZE), (rows, GROUPS, keys, SIZE))
    states = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    visible = torch.ones(length, keys, dtype=torch.bool).tril(SHARED).expand(rows, 1, length, keys)
    work = {"states": states, "visible": visible, "upstream": torch.randn(shapes[0]).to(dtype)}
    sides = {
        "ours": partial(there_and_back, grouped_attention, **work),
        "fused": partial(there_and_back, fused, **work),
    }
    for side in sides.values():
        side()
    seconds = in_turns(sides, turns)
    return {name: spread(values) for name, values in seconds.items()} | {
        "ratio": ratio(seconds["ours"], seconds["fused"])
    }


def main() -> None:
    """Measure every length in both number formats."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    torch.manual_seed(0)
    found = {
        dtype: {f"{length} tokens": measure(length, getattr(torch, dtype), turns) for length in LENGTHS}
        for dtype in ("bfloat16", "float32")
    }
    RESULTS.write_text(json.dumps(machine_facts("cpu") | {"seconds of": TIMES} | found, indent=2) + "\n")


if __name__ == "__main__":
    main()
