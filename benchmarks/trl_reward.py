"""TRL's side of reward.py: reward models loaded, trained and called as TRL's users do it, by TRL's own code.

TRL is imported where it is called: the import takes 8 s, and a process whose memory is measured shall not hold it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from dr_irl.config import Settings
from dr_irl.language.load import load_causal_lm
from dr_irl.language.resolve import resolve_model
from dr_irl.language.split import topmost_layers

Scorer = Callable[[Sequence[str], Sequence[str]], Tensor]


def load_tokenizer(settings: Settings) -> PreTrainedTokenizerBase:
    """Load the tokenizer with a padding token that is no end token.

    transformers reads the reward at the last token that is not padding: with the bundled model's own padding, which
    is its end token, it would be another token than the one where ours is read.
    """
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(settings.models.policy, settings.models.policy_revision))
    tokenizer.pad_token = tokenizer.unk_token
    return tokenizer


def load_base(settings: Settings, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Load the backbone of the reward models with plain transformers."""
    model = AutoModelForSequenceClassification.from_pretrained(
        resolve_model(settings.models.policy, settings.models.policy_revision),
        num_labels=1,
        num_hidden_layers=settings.reward.depth,
        dtype=getattr(torch, settings.models.number_format),
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    return model.to(settings.models.device).eval().requires_grad_(False)


def load_reward_models(
    settings: Settings, tokenizer: PreTrainedTokenizerBase, folders: Mapping[str, Path]
) -> dict[str, PeftModel]:
    """Load every adapter on a backbone of its own: `reward_funcs` takes modules, each with one `forward`."""
    return {
        name: PeftModel.from_pretrained(load_base(settings, tokenizer), folder).eval()
        for name, folder in folders.items()
    }


def rendered(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[str]:
    """Render prompts by the chat template; TRL's format of plain texts then has the very tokens that ours has."""
    turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return [str(tokenizer.apply_chat_template(t, tokenize=False, add_generation_prompt=True)) for t in turns]


def load_and_score(
    settings: Settings, folders: Mapping[str, Path], prompts: Sequence[str], completions: Sequence[str]
) -> dict[str, PeftModel]:
    """Load reward models and let each score every completion, without TRL: for a process whose memory is measured."""
    tokenizer = load_tokenizer(settings)
    models = load_reward_models(settings, tokenizer, folders)
    texts = [
        prompt + text + str(tokenizer.eos_token)
        for prompt, text in zip(rendered(tokenizer, prompts), completions, strict=True)
    ]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False)
    for model in models.values():
        with torch.inference_mode():
            model(**inputs.to(settings.models.device))
    return models


def grpo_scorer(
    models: Sequence[PeftModel], tokenizer: PreTrainedTokenizerBase, settings: Settings, scratch: Path
) -> Scorer:
    """Return the reward computation of a `GRPOTrainer`: one column per model, every model over every completion.

    The method is TRL's own; the policy of the trainer, which scoring does not touch, is a tiny one.
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    trainer = GRPOTrainer(
        model=load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32, device=settings.models.device),
        reward_funcs=list(models),  # pyright: ignore[reportArgumentType]
        reward_processing_classes=[tokenizer] * len(models),
        processing_class=tokenizer,
        args=GRPOConfig(num_generations=2, per_device_train_batch_size=2, **_quiet(settings, scratch)),
        train_dataset=Dataset.from_list([{"prompt": "no prompt of this set is used"}] * 2),
    )

    def score(prompts: Sequence[str], completions: Sequence[str]) -> Tensor:
        ended = [text + str(tokenizer.eos_token) for text in completions]
        return trainer._calculate_rewards([{}] * len(prompts), rendered(tokenizer, prompts), ended, None)

    return score


def lora_config(base: PreTrainedModel, settings: Settings) -> LoraConfig:
    """Return the LoRA of our reward models, for `RewardTrainer`."""
    reward = settings.reward
    return LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=reward.lora_rank,
        lora_alpha=2 * reward.lora_rank,
        target_modules=list(reward.target_modules),
        layers_to_transform=topmost_layers(base, reward.adapted_layers),
        layers_pattern="layers",
        modules_to_save=["score"],
    )


def train_reward_model(
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str, str]],
    settings: Settings,
    scratch: Path,
) -> float:
    """Train one reward model by `RewardTrainer` on (prompt, chosen, rejected); returns the mean loss.

    Without gradient checkpointing, which TRL does by default: it saves memory that is not short here, and costs time.
    """
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import RewardConfig, RewardTrainer

    texts = rendered(tokenizer, [prompt for prompt, _, _ in pairs])
    rows = [
        {"prompt": text, "chosen": chosen, "rejected": rejected}
        for text, (_, chosen, rejected) in zip(texts, pairs, strict=True)
    ]
    reward = settings.reward
    trainer = RewardTrainer(
        model=base,
        args=RewardConfig(
            per_device_train_batch_size=reward.prompts_per_step,
            num_train_epochs=reward.epochs,
            learning_rate=reward.learning_rate,
            gradient_checkpointing=False,
            **_quiet(settings, scratch),
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora_config(base, settings),
    )
    trainer.remove_callback(PrinterCallback)  # it would print among the results
    return float(trainer.train().training_loss)


def _quiet(settings: Settings, scratch: Path) -> dict[str, Any]:
    """Return the arguments of a trainer that saves nothing and tells nobody."""
    on_cpu = settings.models.device == "cpu"
    return {
        "output_dir": str(scratch),
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "seed": settings.seed,
    }
