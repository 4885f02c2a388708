"""A tiny random model of every family of causal language models in the installed transformers."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from dr_irl.language.attention import use_short_row_attention

VOCABULARY = 262
"""The size of the tiny tokenizer's."""
FAMILIES = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
IMPORTANT = (
    *("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "mistral", "ministral", "phi", "phi3", "smollm3"),
    *("olmo2", "olmo3", "granite", "gpt_oss", "gpt2", "gpt_neox", "mixtral", "cohere", "cohere2", "llama4_text"),
    *("glm4", "stablelm", "starcoder2", "nemotron", "exaone4", "bloom"),
)
"""What people bring: looked at in every run of the tests, the others in `make test-slow`."""

_WINDOW = 8
_MOST_PARAMETERS = 20_000_000
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "tie_word_embeddings": False,
}
_WINDOWS: dict[str, Any] = {"sliding_window": _WINDOW, "attention_chunk_size": _WINDOW}
_OF_FAMILY: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": _WINDOW},
    "mixtral": {"sliding_window": _WINDOW},
    "phi3": {"sliding_window": _WINDOW},
    "starcoder2": {"sliding_window": _WINDOW},
    "cohere": {"logit_scale": 0.5},
    "granite": {"embedding_multiplier": 12.0, "logits_scaling": 4.0, "residual_multiplier": 0.5},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": _WINDOW},
    "falcon": {"head_dim": None},
}


def tiny_config(family: str) -> Any:
    """Return a configuration of a few small layers, with small windows where the family has some."""
    plain = AutoConfig.for_model(family)
    known = {name: value for name, value in _COMMON.items() if hasattr(plain, name)}
    known |= {name: size for name, size in _WINDOWS.items() if getattr(plain, name, None)}
    own = known | _OF_FAMILY.get(family, {})
    return AutoConfig.for_model(family, **{name: value for name, value in own.items() if value is not None})


def tiny_causal_lm(family: str) -> PreTrainedModel:
    """Build a model with weights so large that every part of it counts, biases and sinks too."""
    with torch.device("meta"):
        count = sum(p.numel() for p in AutoModelForCausalLM.from_config(tiny_config(family)).parameters())
    if count > _MOST_PARAMETERS:
        raise ValueError(f"{family}: {count} parameters: what its configuration calls its sizes is not known here")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(tiny_config(family))
        for parameter in model.eval().requires_grad_(False).parameters():
            if parameter.dim() > 1:
                parameter.mul_(0.3 / parameter.std().clamp(min=1e-6))
            else:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    use_short_row_attention(model)
    return model
