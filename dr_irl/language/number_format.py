"""Which number format a machine multiplies matrices in fastest."""

import re
from pathlib import Path
from typing import Literal

NumberFormat = Literal["float32", "bfloat16"]

_PROCESSOR = Path("/proc/cpuinfo")


def fastest_number_format(device: str, processor: Path = _PROCESSOR) -> NumberFormat:
    """Choose `bfloat16` where the hardware multiplies it faster than `float32`: GPUs, and some processors.

    Measured, 2048 x 2048 products: AMD with avx512_bf16 3 times as fast; Intel with avx512_bf16 and no AMX half as
    fast, and with these instructions left out, which is to emulate them, a fifth. Intel with AMX, 1024 x 576 x 1536: 4
    to 9 times as fast.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.
        processor: what the kernel says of the processor; where there is no such file the answer is `float32`.
    """
    if device != "cpu":
        return "bfloat16"
    told = processor.read_text() if processor.is_file() else ""
    flags = set(found[1].split()) if (found := re.search(r"(?m)^flags\s*: (.*)$", told)) else set[str]()
    amd = "AuthenticAMD" in told
    return "bfloat16" if "amx_bf16" in flags or (amd and "avx512_bf16" in flags) else "float32"
