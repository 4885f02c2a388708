"""Whether other programs can serve an adapter: what PEFT loads, in the part of it that vLLM understands."""

import re
from pathlib import Path
from typing import Any

from safetensors import safe_open

from dr_irl.errors import ModelError
from dr_irl.json_text import parse_object

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
SERVED_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `--max-lora-rank`."""

_WEIGHT = re.compile(r"(base_model\.model\..+)\.lora_([AB])\.weight")


def require_servable(folder: Path) -> None:
    """Check that an adapter is plain LoRA: complete pairs of matrices of one rank, and nothing besides.

    Raises:
        ModelError: it is not, with everything that is wrong.
    """
    absent = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if problems := [f"it has no {name}" for name in absent] or _problems(folder):
        raise ModelError(
            f"the adapter in {str(folder)!r} cannot be loaded by other programs: {'; '.join(problems)}; publish one "
            "that PEFT saved as plain LoRA"
        )


def lora_rank(folder: Path) -> int:
    """Return the rank of an adapter's matrices."""
    return int(_config(folder)["r"])


def _problems(folder: Path) -> list[str]:
    config, shapes = _config(folder), _shapes(folder / WEIGHTS_FILE)
    found = [
        f"its {key} is {config.get(key)!r}, only {allowed!r} is served"
        for key, allowed in {"peft_type": "LORA", "bias": "none"}.items()
        if config.get(key) != allowed
    ]
    found += [
        f"it uses {key}"
        for key in ("modules_to_save", "use_dora", "rank_pattern", "alpha_pattern", "trainable_token_indices")
        if config.get(key)
    ]
    if not config.get("base_model_name_or_path"):
        found.append("it does not name its base model")
    rank = config.get("r")
    if not isinstance(rank, int) or not 0 < rank <= SERVED_RANKS[-1]:
        return [*found, f"its rank is {rank!r}, at most {SERVED_RANKS[-1]} is served"]
    return found + _wrong_weights(shapes, rank)


def _wrong_weights(shapes: dict[str, list[int]], rank: int) -> list[str]:
    matches = {name: _WEIGHT.fullmatch(name) for name in shapes}
    found = [f"{name} is no LoRA matrix" for name, match in matches.items() if not match]
    sides: dict[str, set[str]] = {}
    for name, match in matches.items():
        if match:
            sides.setdefault(match[1], set()).add(match[2])
            if shapes[name][0 if match[2] == "A" else 1] != rank:
                found.append(f"{name} is of shape {shapes[name]}, not of rank {rank}")
    found += [f"{module} has a matrix {', '.join(has)} alone" for module, has in sides.items() if len(has) == 1]
    return found or ([] if sides else ["it has no weights"])


def _config(folder: Path) -> dict[str, Any]:
    return parse_object((folder / CONFIG_FILE).read_bytes())


def _shapes(path: Path) -> dict[str, list[int]]:
    with safe_open(path, framework="numpy") as weights:
        return {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118 - no mapping
