"""The warm start as a task: supervised fine-tuning before GRPO, no part of the method."""

import json
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dr_irl.categories import BENIGN
from dr_irl.language.adapters import add_policy_adapter, save_policy_adapter
from dr_irl.language.sampling import CachedPrefixSampler
from dr_irl.policy.rollouts import TrainingPrompt
from dr_irl.seeding import torch_generator
from dr_irl.warm_start import WarmStart
from dr_irl.warm_start import warm_start as train_warm_start
from tasks.caching import Job, stage_task
from tasks.demonstrations import read_examples
from tasks.models import base_policy, policy_identity

ADAPTER = "adapter"


@stage_task(
    "warm-start",
    modules=["dr_irl.warm_start", "dr_irl.language.sampling"],
    reads=lambda settings, _: (
        settings.warm_start.model_dump()
        | settings.completions.model_dump(include={"rows_at_once"})
        | settings.grpo.model_dump(include={"lora_rank", "target_modules", "adapted_layers", "micro_batch_tokens"})
        | policy_identity(settings)
        | {"seed": settings.seed}
    ),
)
def warm_start(folder: Path, job: Job) -> None:
    """Raise the likelihood of some demonstrations; the result is the reference policy of everything after."""
    settings = job.settings
    model, tokenizer = base_policy(settings)
    prompts = _prompts(job, model, tokenizer)
    policy = add_policy_adapter(
        model,
        rank=settings.grpo.lora_rank,
        adapted_layers=settings.grpo.adapted_layers,
        target_modules=settings.grpo.target_modules,
        generator=torch_generator(settings.seed, "policy adapter"),
    )
    options = WarmStart(
        steps=settings.warm_start.steps,
        rows_per_step=settings.warm_start.rows_per_step,
        benign_share=settings.warm_start.benign_share,
        learning_rate=settings.warm_start.learning_rate,
        micro_batch_tokens=settings.grpo.micro_batch_tokens,
        adapted_layers=settings.grpo.adapted_layers,
        limit=settings.warm_start.max_answer_tokens,
    )
    with job.progress.stage("warm start", options.steps, "steps") as meter:
        losses = train_warm_start(
            policy,
            tokenizer,
            prompts,
            options,
            generator=torch_generator(settings.seed, "warm start"),
            report=lambda loss: meter.advance(loss=loss),
        )
    save_policy_adapter(policy, folder / ADAPTER)
    (folder / "losses.json").write_text(json.dumps(losses))


def _prompts(job: Job, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[TrainingPrompt]:
    """Pair harmful prompts with their demonstrations, and ordinary ones with the answers that settings ask for."""
    options = job.settings.warm_start
    examples = read_examples(job.inputs.folder("balance"), "train")
    answers = {example.id: str(example.response) for example in examples}
    benign = [example for example in examples if example.category == BENIGN]
    if options.benign_answers == "own" and benign:
        with job.progress.stage("own answers", len(benign) * (options.max_answer_tokens + 1), "tokens") as meter:
            sampler = CachedPrefixSampler(
                model,
                tokenizer,
                # One more than is kept, so that an answer cut off there is not taught to end there.
                max_new_tokens=options.max_answer_tokens + 1,
                temperature=0.0,
                rows_at_once=job.settings.completions.rows_at_once,
                report=meter.advance,
            )
            own = sampler.sample([e.prompt for e in benign], per_prompt=1, generator=torch.Generator())
        answers |= {example.id: sample.text for example, (sample,) in zip(benign, own, strict=True)}
    return [
        TrainingPrompt(e.id, e.prompt, str(e.category), answers[e.id], distance=0.0, category_distance=0.0)
        for e in examples
    ]
