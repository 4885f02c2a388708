"""Stage 2 as tasks: one reward model per category, side by side, and how they do on rows of their own and others'."""

import itertools
import json
import math
from pathlib import Path

from dr_irl.categories import ALL_LABELS, BENIGN
from dr_irl.language.load import load_tokenizer
from dr_irl.reward.model import RewardBackbone, add_reward_adapter
from dr_irl.reward.pairs import preference_rows
from dr_irl.reward.panel import RewardPanel, save_reward_model
from dr_irl.reward.train import Objective, train_reward_model
from dr_irl.seeding import torch_generator
from tasks.caching import Inputs, Job
from tasks.contents import PANEL, TRAINING, read_examples, texts_by_prompt
from tasks.models import reward_backbone
from tasks.sampling import measured_prompts


def reward_model(folder: Path, job: Job) -> None:
    """Learn one category's reward from its demonstrations by maximum-likelihood inverse RL.

    Tasks of several categories run in threads, each with a backbone of its own: PEFT changes modules in place.
    """
    settings, options, category = job.settings, job.settings.reward, job.variant
    rows = preference_rows(
        read_examples(job.inputs.folder("balance"), "train"),
        category,
        texts_by_prompt(job.inputs.folder("completions")),
        contrast=options.contrast_negatives,
        limit=options.max_rows,
        own_answers=options.benign_answers == "own",
        generator=torch_generator(settings.seed, "pairs", category),
    )
    model = add_reward_adapter(
        reward_backbone(settings),
        category,
        rank=options.lora_rank,
        adapted_layers=options.adapted_layers,
        target_modules=options.target_modules,
        generator=torch_generator(settings.seed, "reward adapter", category),
    )
    tokenizer = load_tokenizer(settings.models.policy, settings.models.policy_revision)
    trained = len(rows) - max(1, round(options.validation_share * len(rows)))
    steps = options.epochs * math.ceil(trained / options.prompts_per_step)
    with job.progress.stage(f"reward {category}", steps, "steps") as meter:
        outcome = train_reward_model(
            RewardBackbone(
                model,
                tokenizer,
                adapted_layers=options.adapted_layers,
                limit=settings.completions.max_new_tokens,
            ),
            rows,
            objective=Objective(options.objective, options.beta, options.minimax_penalty),
            learning_rate=options.learning_rate,
            epochs=options.epochs,
            prompts_per_step=options.prompts_per_step,
            validation_share=options.validation_share,
            generator=torch_generator(settings.seed, "reward", category),
            report=lambda loss: meter.advance(loss=loss),
            checkpoints=job.checkpoints(meter, every=options.checkpoint_every),
        )
    save_reward_model(model, category, outcome.calibration, folder)
    report = {"wins": outcome.wins, "losses": outcome.losses, "train_rows": trained}
    (folder / TRAINING).write_text(json.dumps(report))


def panel_report(folder: Path, job: Job) -> None:
    """Measure every reward model on held-out pairs of every category, which come from a source none was trained on."""
    texts = texts_by_prompt(job.inputs.folder("completions"))
    examples = measured_prompts(read_examples(job.inputs.folder("balance"), "heldout"), job)
    prompts = [example.prompt for example in examples]
    panel = load_panel(job)
    demonstrated = panel.cross_score(prompts, [str(example.response) for example in examples])
    refusals = [str(example.response) for example in examples if example.category != BENIGN]
    refused = iter(itertools.cycle(refusals))
    # An ordinary prompt is paired with somebody else's refusal: telling these apart is what the guard is for.
    worse = [next(refused) if e.category == BENIGN else texts[e.id][0] for e in examples]
    sampled = panel.cross_score(prompts, worse)
    gaps = {
        model: {
            category: [
                float(demonstrated[model][row] - sampled[model][row])
                for row, example in enumerate(examples)
                if example.category == category
            ]
            for category in ALL_LABELS
        }
        for model in panel.categories
    }
    (folder / PANEL).write_text(json.dumps(gaps))


def load_panel(job: Job) -> RewardPanel:
    """Load the reward models that a job was given, benign included."""
    settings = job.settings
    return RewardPanel.load(
        reward_backbone(settings),
        load_tokenizer(settings.models.policy, settings.models.policy_revision),
        reward_folders(job.inputs),
        adapted_layers=settings.reward.adapted_layers,
        limit=settings.completions.max_new_tokens,
    )


def reward_folders(inputs: Inputs) -> dict[str, Path]:
    """Return category -> folder of its reward model."""
    return {label: inputs.folder(f"reward/{label}") for label in ALL_LABELS if f"reward/{label}" in inputs}
