"""TRL's side of grpo.py: a plain `GRPOTrainer` with one reward model, and the check that both sides do equal work.

TRL is imported where it is called: the import takes 8 s, and our own process's memory shall not hold it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpo_work as work
import torch
import trl_reward
from peft import LoraConfig, TaskType
from timing import synchronise
from torch import Tensor
from transformers import TrainerCallback

from dr_irl.config import Settings
from dr_irl.language.chat import prompt_ids
from dr_irl.language.sampling import Sample
from dr_irl.language.split import topmost_layers
from dr_irl.policy.rollouts import Rollouts, TrainingPrompt

ROWS_PER_PASS = 32
"""Completions in one pass on a CPU: about the tokens of one of ours. On a GPU the whole batch is one pass."""
TOLERANCES = {
    "float32": {"loss": 1e-6, "gradient_norm": 0.002, "gradient_direction": 2e-5},
    "bfloat16": {"loss": 0.002, "gradient_norm": 0.05, "gradient_direction": 0.01},
}
"""Largest differences of loss, of the gradient's norm (relative), of its direction (1 - cosine). The loss is the KL
penalty, for the advantages of a group sum to zero: small, and in bfloat16 half of it can be rounding."""


class StepClock(TrainerCallback):
    """Times steps from within: around them, `train` sets up what a long training sets up once."""

    def __init__(self) -> None:
        """Start with no step."""
        self.seconds: list[float] = []
        self.shortest: list[int] = []
        """Tokens of each step's shortest completion."""
        self.trainer: Any = None
        self._start = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        synchronise()
        self._start = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop the clock, and look at what was sampled before the log is emptied."""
        synchronise()
        self.seconds.append(time.perf_counter() - self._start)
        self.shortest.append(int(self.trainer._metrics["train"]["completions/min_length"][-1]))


@dataclass(frozen=True, slots=True)
class Trl:
    """TRL's side, ready to take the same step again."""

    trainer: Any
    clock: StepClock

    def step(self) -> None:
        """Take a step; its time is the clock's last."""
        self.trainer.train()


def load_trl(settings: Settings, prompts: Sequence[TrainingPrompt], reward_model: Path, scratch: Path) -> Trl:
    """Load TRL's side, for one step on all the prompts.

    Without gradient checkpointing, which saves memory and costs time, and without autocast: LoRA is float32, as ours.
    """
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    model, tokenizer = work.load_endless_policy(settings)
    model.generation_config.eos_token_id = tokenizer.eos_token_id  # pyright: ignore
    reward_tokenizer = trl_reward.load_tokenizer(settings)
    reward_models = trl_reward.load_reward_models(settings, reward_tokenizer, {"one": reward_model})
    grpo = settings.grpo
    rows = grpo.prompts_per_step * grpo.group_size
    per_pass = min(rows, ROWS_PER_PASS) if settings.models.device == "cpu" else rows
    trainer: Any = GRPOTrainer(
        model=model,
        reward_funcs=list(reward_models.values()),  # pyright: ignore
        reward_processing_classes=[reward_tokenizer],
        processing_class=tokenizer,
        peft_config=policy_lora(model, settings),
        args=GRPOConfig(
            max_steps=1,
            per_device_train_batch_size=per_pass,
            gradient_accumulation_steps=rows // per_pass,
            num_generations=grpo.group_size,
            max_completion_length=settings.completions.max_new_tokens,
            temperature=grpo.temperature,
            beta=grpo.kl_weight,
            epsilon=grpo.clip,
            loss_type="grpo",
            scale_rewards="batch",
            learning_rate=grpo.learning_rate,
            max_grad_norm=grpo.max_grad_norm,
            gradient_checkpointing=False,
            bf16=False,
            **trl_reward._quiet(settings, scratch),
        ),
        train_dataset=Dataset.from_list([{"prompt": _conversation(prompt)} for prompt in prompts]),
    )
    trainer.remove_callback(PrinterCallback)  # it would print among the results
    work.draw_adapter(trainer.model)
    clock = StepClock()
    clock.trainer = trainer
    trainer.add_callback(clock)
    return Trl(trainer, clock)


def policy_lora(model: Any, settings: Settings) -> LoraConfig:
    """Return the LoRA of our policy."""
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.grpo.lora_rank,
        lora_alpha=2 * settings.grpo.lora_rank,
        target_modules=list(settings.grpo.target_modules),
        layers_to_transform=topmost_layers(model, settings.grpo.adapted_layers),
        layers_pattern="layers",
    )


def check_prompts(native: work.Native, trl: Trl) -> None:
    """Compare the tokens of all prompts.

    Raises:
        SystemExit: they differ.
    """
    theirs = trl.trainer._tokenize_prompts(list(trl.trainer.train_dataset["prompt"]))[0]
    if theirs != prompt_ids(native.tokenizer, [prompt.text for prompt in native.prompts]):
        raise SystemExit("the two sides read other tokens for the same prompts: not equal work")


def compare_learning(native: work.Native, trl: Trl) -> dict[str, float]:
    """Let TRL complete all prompts, and compare what both sides learn from these completions; before any training.

    Raises:
        SystemExit: losses or gradients differ by more than rounding explains.
    """
    group, learner = native.settings.grpo.group_size, native.loop.learner
    batch = complete(trl.trainer, native.prompts, group)
    rollouts = _rollouts(native.prompts, batch["completion_ids"].tolist(), group)
    advantages = batch["advantages"].cpu().view(-1, group)
    loss = learner.accumulate(learner.lay_out(rollouts, advantages, range(len(native.prompts))))["loss"]
    gradient = flat_gradient(native.policy)
    their_loss, theirs = learn_from(trl.trainer, batch)
    found = {
        "loss": abs(loss - their_loss),
        "gradient_norm": float((gradient.norm() / theirs.norm() - 1).abs()),
        "gradient_direction": 1 - float(torch.cosine_similarity(gradient, theirs, dim=0)),
    }
    allowed = TOLERANCES[native.settings.models.number_format]
    if any(not found[name] <= allowed[name] for name in allowed):
        raise SystemExit(f"the two sides learn differently: {found}, allowed: {allowed}: not equal work")
    return {"our_loss": loss, "their_loss": their_loss} | {f"{name}_difference": value for name, value in found.items()}


def complete(trainer: Any, prompts: Sequence[TrainingPrompt], group: int) -> dict[str, torch.Tensor]:
    """Let TRL sample and score completions of the prompts."""
    trainer.model.eval()  # TRL then divides the loss by this batch, not by the passes of a step
    return trainer._generate_and_score_completions(
        [{"prompt": _conversation(prompt)} for prompt in prompts for _ in range(group)]
    )


def learn_from(trainer: Any, batch: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Return TRL's loss of a batch and its gradient."""
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    return loss.item(), flat_gradient(trainer.model)


def flat_gradient(model: torch.nn.Module) -> Tensor:
    """Return the gradient of all LoRA weights, by order of name."""
    gradients = [p.grad for _, p in sorted(model.named_parameters()) if p.grad is not None]
    return torch.cat([gradient.flatten().cpu().double() for gradient in gradients])


def _conversation(prompt: TrainingPrompt) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt.text}]


def _rollouts(prompts: Sequence[TrainingPrompt], completions: list[list[int]], group: int) -> Rollouts:
    samples = [Sample(token_ids=tuple(ids), text="", truncated=True) for ids in completions]
    groups = [samples[start : start + group] for start in range(0, len(samples), group)]
    return Rollouts(prompts, groups, torch.zeros(len(prompts), group), torch.zeros(len(prompts)))
