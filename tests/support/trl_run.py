"""A TRL run whose completions are fixed: what the trainer's tests share, and a script that writes what a run did.

`python trl_run.py OUT`, alone or under a launcher of several processes: the completions do not depend on how many.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOConfig, GRPOTrainer

from dr_irl.categories import BENIGN
from dr_irl.integrations.trl import DynamicRewardGRPOTrainer, RoutedReward
from dr_irl.language.chat import prompt_ids
from dr_irl.language.load import load_causal_lm, load_tokenizer
from dr_irl.reward.panel import RewardPanel
from dr_irl.scaling.options import ScalingRule
from dr_irl.snapshot import trainable_by_name
from tasks.trl.worker import end_at_once

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

NAME = "bundled:tiny-random-lm"
GROUP = 4
RULE = ScalingRule(kappa=2.0, reference="ema", ema_decay=0.5, tau=1.0, rescale=False)
LORA = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "o_proj"])
ROWS = [
    ("i", "mock him", "insult", "PPP", 0.6, 0.5),
    ("p", "hurt him", "physical_harm", "PP", 0.3, 0.4),
    ("j", "mock her", "insult", "PxP", 0.2, 0.5),
    ("q", "hurt her", "physical_harm", "PPx", 0.5, 0.4),
    ("b", "hi", BENIGN, "P", 0.0, 0.0),
]
ANSWERS = {
    "mock him": ["PPPP", "x", "Px", "xxx"],
    "hurt him": ["P", "xP", "yyP", "zzzz"],
    "mock her": ["xP", "PxPx", "PP", "y"],
    "hurt her": ["PPx", "Pxxx", "y", "PP"],
    "hi": ["hello", "P", "PP you", "no"],
}


class LetterPanel(RewardPanel):
    """Rewards an answer by its share of the letter P, twice that in `insult`; needs no model."""

    categories = ("insult", "physical_harm", BENIGN)

    def __init__(self) -> None:
        self.scored: list[str] = []

    def score(self, categories: Sequence[str], prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
        self.scored += responses
        shares = [text.count("P") / max(1, len(text)) for text in responses]
        return torch.tensor([s * (2 if c == "insult" else 1) for s, c in zip(shares, categories, strict=True)])


def rows(*, conversation: bool = True) -> list[dict[str, Any]]:
    names = ("id", "prompt", "category", "demonstration", "distance", "category_distance")
    found = [dict(zip(names, row, strict=True)) for row in ROWS]
    if conversation:
        found = [row | {"prompt": [{"role": "user", "content": row["prompt"]}]} for row in found]
    return found


def fixed_rollouts(prompts: list[Any], trainer: Any) -> dict[str, Any]:
    """Complete the rows of this process; which answer a row gets depends on its place among all processes' rows."""
    tokenizer = trainer.processing_class
    first = trainer.accelerator.process_index * len(prompts)
    texts = [prompt[-1]["content"] for prompt in prompts]
    later = "x" * trainer.state.global_step  # other completions, and so other gaps, at every step
    answers = [ANSWERS[text][(first + row) % GROUP] + later for row, text in enumerate(texts)]
    ids = [tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for answer in answers]
    return {"prompt_ids": prompt_ids(tokenizer, texts), "completion_ids": ids, "logprobs": None}


def tiny_policy() -> PreTrainedModel:
    model = load_causal_lm(NAME, dtype=torch.float32)
    # As it comes, the tiny model's output is too near uniform to express a preference.
    model.get_decoder().norm.weight.mul_(10.0)
    return model


def draw_adapter(model: torch.nn.Module, std: float = 0.1) -> None:
    """Draw all LoRA weights, in the order of their names: a policy that is not its reference."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * std)


def arguments(folder: Path, **changes: Any) -> GRPOConfig:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    options: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 2,
        "per_device_train_batch_size": len(ROWS) * GROUP // 2 // processes,
        "gradient_accumulation_steps": 2,
        "num_generations": GROUP,
        "max_completion_length": 8,
        "beta": 0.05,
        "use_bias_correction_kl": False,
        "loss_type": "grpo",
        # Adam divides a gradient by its size: weights without a gradient to speak of would follow the rounding.
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "shuffle_dataset": False,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 3,
    }
    return GRPOConfig(**(options | changes))


def make_trainer(
    folder: Path,
    *,
    rule: ScalingRule | None = RULE,
    fixed: bool = True,
    panel: RewardPanel | None = None,
    more_rewards: Sequence[Any] = (),
    without: str = "",
    **changes: Any,
) -> Any:
    """Make our trainer, or TRL's own where there is no rule; the data set can be without a column."""
    given: dict[str, Any] = {
        "model": tiny_policy(),
        "reward_funcs": [RoutedReward(panel or LetterPanel()), *more_rewards],
        "args": arguments(folder, **changes),
        "train_dataset": Dataset.from_list([{k: v for k, v in row.items() if k != without} for row in rows()]),
        "processing_class": load_tokenizer(NAME),
        "peft_config": LORA,
        "rollout_func": fixed_rollouts if fixed else None,
    }
    trainer = GRPOTrainer(**given) if rule is None else DynamicRewardGRPOTrainer(scaling=rule, **given)
    draw_adapter(trainer.model)
    return trainer


def weights(trainer: Any) -> dict[str, Tensor]:
    found = trainable_by_name(trainer.accelerator.unwrap_model(trainer.model))
    return {name: parameter.detach().clone() for name, parameter in found.items()}


def what_it_did(trainer: Any) -> dict[str, Any]:
    return {
        "alpha": [record.alpha for record in trainer.scaling_records],
        "mean_gaps": trainer.mean_gaps,
        "advantages": list(trainer._logs["advantages"]),
        "weights": {name: tensor.flatten().tolist() for name, tensor in weights(trainer).items()},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    run = make_trainer(Path(sys.argv[1]))
    run.train()
    # Every process writes: they must agree.
    Path(sys.argv[1], f"process-{run.accelerator.process_index}.json").write_text(json.dumps(what_it_did(run)))
    run.accelerator.wait_for_everyone()
    end_at_once()
