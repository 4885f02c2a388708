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

_SEVERAL = "its configuration is of several models, not of a text model alone"
_UNKNOWN = "a tiny configuration of it is not known to the tests"
NOT_TRIED = {
    "aria": _SEVERAL,
    "bailing_hybrid": _UNKNOWN,
    "bart": _SEVERAL,
    "beam": _UNKNOWN,
    "bigbird_pegasus": _SEVERAL,
    "blenderbot": _SEVERAL,
    "blenderbot-small": _SEVERAL,
    "blt": _UNKNOWN,
    "cohere_compass_text": _UNKNOWN,
    "dbrx": _UNKNOWN,
    "deepseek_v32": _UNKNOWN,
    "deepseek_v4": _UNKNOWN,
    "dots3_note": _SEVERAL,
    "dots3_note_text": _UNKNOWN,
    "emu3": _SEVERAL,
    "fuyu": _SEVERAL,
    "gemma3": _SEVERAL,
    "gemma3n": _SEVERAL,
    "gemma3n_text": _UNKNOWN,
    "gemma4": _SEVERAL,
    "gemma4_assistant": _SEVERAL,
    "gemma4_unified": _SEVERAL,
    "gemma4_unified_assistant": _SEVERAL,
    "gemma4_unified_text": _UNKNOWN,
    "git": _SEVERAL,
    "got_ocr2": _SEVERAL,
    "inkling2": _SEVERAL,
    "kimi_linear": _UNKNOWN,
    "llama4": _SEVERAL,
    "marian": _SEVERAL,
    "mbart": _SEVERAL,
    "mllama": _SEVERAL,
    "moshi": _SEVERAL,
    "moss_transcribe_diarize": _SEVERAL,
    "musicgen": _SEVERAL,
    "musicgen_melody": _SEVERAL,
    "mvp": _SEVERAL,
    "pegasus": _SEVERAL,
    "phi4_multimodal": _SEVERAL,
    "plbart": _SEVERAL,
    "prophetnet": _SEVERAL,
    "qwen3_5": _SEVERAL,
    "qwen3_5_moe": _SEVERAL,
    "qwen4_exp": _SEVERAL,
    "qwen4_exp_text": _UNKNOWN,
    "reformer": _UNKNOWN,
    "speech": _SEVERAL,
    "trocr": _SEVERAL,
    "whisper": _SEVERAL,
    "xlnet": _UNKNOWN,
    "xlstm": _UNKNOWN,
    "xmod": _UNKNOWN,
    "zamba2": _UNKNOWN,
}
"""Families without a tiny model here, and why."""

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
    "rotary_dim": 8,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
}
"""Of families that compress keys and values."""
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
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "attn_layer_indices": [1, 3]},
    "mamba2": {"num_heads": 8, "n_groups": 1, "state_size": 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "zaya": {"num_experts_per_tok": 1},
    "gemma4_text": {
        "num_kv_shared_layers": 0,
        "global_head_dim": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 8,
    },
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"] * 2,
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_n_groups": 1,
    },
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64, "mamba_n_groups": 1},
}


def tiny_config(family: str) -> Any:
    """Return a configuration of a few small layers, with small windows where the family has some."""
    plain = AutoConfig.for_model(family)
    names = {*plain.to_dict(), *plain.attribute_map}
    usual = _COMMON | (_LATENT if "kv_lora_rank" in names else {})
    known = {name: value for name, value in usual.items() if name in names}
    known |= {name: size for name, size in _WINDOWS.items() if name in names and getattr(plain, name)}
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
