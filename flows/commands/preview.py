"""What a run will do, told before anything heavy is imported or any store is opened."""

from dr_irl.categories import HARM_CATEGORIES
from dr_irl.config import Settings
from tasks.contents import CHAMPION, MODELS, WARM_STARTED, model_title
from tasks.trainers import trainer_of, warm_starts


def preview(settings: Settings, store: str) -> str:
    """Say what a run with these settings does, a line per stage."""
    trainer, reward = trainer_of(settings), settings.reward
    rows = settings.balance.rows_per_category
    rounds = f"{reward.rounds} rounds of " if reward.rounds > 1 else ""
    baseline = ", one more on all" if reward.single_baseline else ""
    limit = settings.completions.prompts_per_category or max(rows, settings.balance.benign_rows)
    prompts = len(HARM_CATEGORIES) * min(rows, limit) + min(settings.balance.benign_rows, limit)
    completions = prompts * settings.completions.per_prompt
    lines = [
        f"profile {settings.profile}, seed {settings.seed}, store {store}",
        f"policy {settings.models.policy} in {settings.models.number_format} on {settings.models.device}; "
        f"encoder {settings.models.encoder}",
        f"1 sources              {', '.join(settings.sources.files)}",
        f"2 balance              {rows} rows in each of {len(HARM_CATEGORIES)} categories, "
        f"{settings.balance.benign_rows} ordinary ones",
        f"3 {_start(settings)}",
        f"4 completions          {completions} of up to {settings.completions.max_new_tokens} tokens",
        f"5 reward models        {len(settings.reward_labels)} x {rounds}{reward.epochs} epochs, {reward.training}, "
        f"objective {reward.objective}, LoRA r {reward.lora_rank} on the top {reward.adapted_layers} of {reward.depth} "
        f"layers{baseline}",
        f"6 hardness             level {settings.hardness.level}",
        f"7 {trainer.preview(settings)}",
        *([_scaling(settings)] if trainer.rewards else []),
        f"8 evaluation           {', '.join(_evaluated(settings))}",
        "9 report               report.html",
    ]
    return "\n".join(lines)


def _start(settings: Settings) -> str:
    if settings.models.start == "champion":
        return f"start                {settings.models.champion}"
    steps = settings.warm_start.steps
    return f"warm start           {steps} steps" + ("" if steps else " (off)")


def _scaling(settings: Settings) -> str:
    scaling = settings.scaling
    return (
        f"  scaling              {scaling.combine}, kappa {scaling.kappa:g}, reference {scaling.reference}, "
        f"tau {scaling.tau}"
    )


def _evaluated(settings: Settings) -> list[str]:
    absent = {WARM_STARTED: not warm_starts(settings), CHAMPION: not settings.models.champion}
    return [model_title(model) for model in MODELS if not absent.get(model)]
