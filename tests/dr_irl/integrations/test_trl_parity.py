"""Our learner and TRL's on the same completions: the same loss, and the same gradient of every weight."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor
from trl.trainer.utils import pad
from trl_run import LORA, NAME, draw_adapter, make_trainer, tiny_policy

from dr_irl.language.chat import prompt_ids
from dr_irl.language.load import load_tokenizer
from dr_irl.language.sampling import Sample
from dr_irl.policy.advantages import group_advantages
from dr_irl.policy.learner import Learner
from dr_irl.policy.options import GrpoOptions
from dr_irl.policy.rollouts import Rollouts, TrainingPrompt
from dr_irl.snapshot import trainable_by_name

MAX_TOKENS = 8
KL_WEIGHT = 0.3
DRIFT = 0.97
"""pi_old of the off-policy cases is pi_ref ** DRIFT: ratios lie within the clipped range and on both sides of it."""
TOLERANCE = 1e-5

Learned = tuple[float, dict[str, Tensor]]


def rollouts() -> Rollouts:
    """Three groups of two; one completion is a single token, and one was cut off."""
    lengths = [[3, 8], [1, 5], [6, 2]]
    numbers = torch.Generator().manual_seed(7)
    samples = [
        [
            Sample(tuple(torch.randint(6, 200, (n,), generator=numbers).tolist()), "", truncated=n == MAX_TOKENS)
            for n in group
        ]
        for group in lengths
    ]
    prompts = [TrainingPrompt(text, text, "insult", "", 0.5, 0.5) for text in ("mock him", "hi", "a longer one")]
    return Rollouts(prompts, samples, torch.tensor([[1.0, 0.2], [0.0, -2.0], [0.3, 0.4]]), torch.zeros(3))


def advantages() -> Tensor:
    return group_advantages(rollouts().rewards, torch.tensor([0.5, 1.0, 2.0]), tolerance=0.0)


def learn_native(loss_type: str, *, off_policy: bool, masked: bool, budget: int = 4096) -> Learned:
    policy = get_peft_model(tiny_policy(), LORA, adapter_name="policy")
    draw_adapter(policy)
    options = GrpoOptions(
        steps=1,
        prompts_per_step=3,
        group_size=2,
        benign_ratio=0.0,
        loss_type=loss_type,  # pyright: ignore[reportArgumentType]
        learning_rate=0.1,
        kl_weight=KL_WEIGHT,
        clip_high=0.28,
        temperature=0.9,
        mask_truncated=masked,
        micro_batch_tokens=budget,
        adapted_layers=2,
    )
    learner = Learner(policy, load_tokenizer(NAME), options, max_tokens=MAX_TOKENS)
    batches = learner.lay_out(rollouts(), advantages(), range(3))
    for batch in batches:
        batch.old = batch.reference * DRIFT if off_policy else None
    loss = learner.accumulate(batches)["loss"]
    return loss, gradients(policy)


def learn_trl(folder: Path, loss_type: str, *, off_policy: bool, masked: bool) -> Learned:
    trainer = make_trainer(
        folder,
        loss_type=loss_type,
        beta=KL_WEIGHT,
        epsilon=0.2,
        epsilon_high=0.28,
        temperature=0.9,
        max_completion_length=MAX_TOKENS,
        gradient_accumulation_steps=1,
        per_device_train_batch_size=8,
    )
    trainer.current_gradient_accumulation_steps = 1  # TRL sets it where training starts
    inputs = trl_inputs(trainer, masked=masked)
    if off_policy:
        inputs["old_per_token_logps"] = inputs["ref_per_token_logps"] * DRIFT
    trainer.model.train()
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.item(), gradients(trainer.model)


def trl_inputs(trainer: Any, *, masked: bool) -> dict[str, Tensor]:
    """Lay the completions out as TRL does: prompts padded on the left, completions on the right."""
    given = rollouts()
    questions = prompt_ids(trainer.processing_class, [p.text for p in given.prompts for _ in range(2)])
    prompts = [torch.tensor(ids) for ids in questions]
    answers = [torch.tensor(sample.token_ids) for sample in given.flat]
    counted = [torch.full_like(a, not (masked and s.truncated)) for a, s in zip(answers, given.flat, strict=True)]
    found = {
        "prompt_ids": pad(prompts, padding_side="left"),
        "prompt_mask": pad([torch.ones_like(p) for p in prompts], padding_side="left"),
        "completion_ids": pad(answers),
        "completion_mask": pad(counted),
        "advantages": advantages().flatten(),
        "num_items_in_batch": torch.cat(counted).sum(),
    }
    ids, mask = (torch.cat([found[f"prompt_{part}"], found[f"completion_{part}"]], dim=1) for part in ("ids", "mask"))
    with torch.no_grad(), trainer.model.disable_adapter():
        found["ref_per_token_logps"] = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, found["completion_ids"].shape[1]
        )[0]
    return found


def gradients(policy: Any) -> dict[str, Tensor]:
    """Return the gradient of each adapter weight, by a name that does not hold the adapter's own."""
    return {
        name.replace(".policy.", ".default."): parameter.grad
        for name, parameter in trainable_by_name(policy).items()
        if parameter.grad is not None
    }


CASES = [
    pytest.param(loss_type, off_policy, masked, id=f"{loss_type}{'-off-policy' * off_policy}{'-masked' * masked}")
    for loss_type in ("grpo", "dr_grpo", "dapo")
    for off_policy in (False, True)
    for masked in (False, True)
]


@pytest.mark.parametrize(("loss_type", "off_policy", "masked"), CASES)
def test_loss_is_the_same(tmp_path: Path, loss_type: str, off_policy: bool, masked: bool) -> None:
    ours, _ = learn_native(loss_type, off_policy=off_policy, masked=masked)
    theirs, _ = learn_trl(tmp_path, loss_type, off_policy=off_policy, masked=masked)
    assert ours == pytest.approx(theirs, abs=TOLERANCE)


@pytest.mark.parametrize(("loss_type", "off_policy", "masked"), CASES)
def test_gradient_of_every_weight_is_the_same(tmp_path: Path, loss_type: str, off_policy: bool, masked: bool) -> None:
    _, ours = learn_native(loss_type, off_policy=off_policy, masked=masked)
    _, theirs = learn_trl(tmp_path, loss_type, off_policy=off_policy, masked=masked)
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < TOLERANCE


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
def test_gradient_is_the_same_from_many_small_passes(tmp_path: Path, loss_type: str) -> None:
    _, ours = learn_native(loss_type, off_policy=False, masked=False, budget=1)
    _, theirs = learn_trl(tmp_path, loss_type, off_policy=False, masked=False)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < TOLERANCE


def test_the_cases_are_not_trivial() -> None:
    """Off policy, some ratios are clipped; the divergence from the reference counts; gradients are far from zero."""
    on, off = (learn_native("grpo", off_policy=o, masked=False) for o in (False, True))
    assert abs(on[0] - off[0]) > 100 * TOLERANCE
    assert min(float(gradient.abs().max()) for gradient in on[1].values()) > 100 * TOLERANCE
