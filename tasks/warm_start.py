"""The warm start as a task: supervised fine-tuning before GRPO, no part of the method."""

import json
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dr_irl.categories import BENIGN
from dr_irl.language.adapters import POLICY, add_policy_adapter, save_adapter
from dr_irl.language.sampling import Sample
from dr_irl.policy.rollouts import TrainingPrompt
from dr_irl.seeding import torch_generator
from dr_irl.warm_start import warm_start as train_warm_start
from tasks.contents import ADAPTER, read_examples
from tasks.job import Job
from tasks.models import base_policy, sampler_of


def warm_start(folder: Path, job: Job) -> None:
    """Learn refusals and hold the policy on ordinary prompts; the result is where GRPO starts, and its KL reference."""
    settings = job.settings
    model, tokenizer = base_policy(settings)
    prompts = [
        TrainingPrompt(e.id, e.prompt, str(e.category), str(e.response), distance=0.0, category_distance=0.0)
        for e in read_examples(job.inputs.folder("balance"), "train")
    ]
    own = _own_answers(prompts, model, tokenizer, job)
    policy = add_policy_adapter(
        model,
        rank=settings.grpo.lora_rank,
        adapted_layers=settings.grpo.adapted_layers,
        target_modules=settings.grpo.target_modules,
        generator=torch_generator(settings.seed, "policy adapter"),
    )
    options = settings.warm_start
    with job.progress.stage("warm start", options.steps, "steps") as meter:
        losses = train_warm_start(
            policy,
            tokenizer,
            prompts,
            options,
            adapted_layers=settings.grpo.adapted_layers,
            micro_batch_tokens=settings.grpo.micro_batch_tokens,
            own_answers=own,
            generator=torch_generator(settings.seed, "warm start"),
            report=lambda loss: meter.advance(loss=loss),
            checkpoints=job.checkpoints(meter, every=options.checkpoint_every),
        )
    save_adapter(policy, POLICY, folder / ADAPTER)
    (folder / "losses.json").write_text(json.dumps(losses))


def _own_answers(
    prompts: Sequence[TrainingPrompt], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, job: Job
) -> dict[str, str]:
    """Let the untrained policy answer a share of the ordinary prompts."""
    options, settings = job.settings.warm_start, job.settings
    benign = [prompt for prompt in prompts if prompt.category == BENIGN]
    chosen = benign[: round(options.own_share * len(benign))]
    if not chosen:
        return {}
    # One token more than is held, so that an answer cut off there is not held to end there.
    limit = options.max_answer_tokens + 1
    with job.progress.stage("own answers", len(chosen) * limit, "tokens") as meter:
        sampler = sampler_of(
            settings,
            model,
            tokenizer,
            max_new_tokens=limit,
            temperature=settings.completions.temperature,
            rows_at_once=settings.completions.rows_at_once,
            report=meter.advance,
        )
        generator = torch_generator(settings.seed, "own answers")
        samples = sampler.sample([prompt.text for prompt in chosen], per_prompt=1, generator=generator)
    return {prompt.id: sample.answer for prompt, (sample,) in zip(chosen, samples, strict=True) if _is_whole(sample)}


def _is_whole(sample: Sample) -> bool:
    """Tell whether an answer can be held to end where it does: what is left of a cut one, its thought gone, cannot."""
    return sample.answer == sample.text or (bool(sample.answer) and not sample.truncated)
