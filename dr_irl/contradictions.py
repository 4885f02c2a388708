"""What settings cannot say together: shares that round away, limits the wrong way round, what would be ignored.

Each rule is a line: what is wrong, with the values seen and the nearest that works, and whether these settings say so.
What depends on a model's files is seen by `tasks.models.check_policy`, what a trainer cannot do by its `problems`.
"""

from typing import TYPE_CHECKING

from dr_irl.reward.options import MIN_ROWS

if TYPE_CHECKING:
    from dr_irl.config import Settings


def contradictions(settings: "Settings") -> list[str]:
    """Say what these settings cannot mean together; empty where they can."""
    grpo, warm_start, balance = settings.grpo, settings.warm_start, settings.balance
    reward, completions, scaling = settings.reward, settings.completions, settings.scaling
    guarded = balance.benign_rows > 0
    completed = completions.prompts_per_category or balance.rows_per_category
    rows = min(balance.rows_per_category, reward.max_rows, completed)
    rules = {
        "grpo.reward_models = single needs reward.single_baseline = true, which trains that model": (
            grpo.reward_models == "single" and not reward.single_baseline
        ),
        _rounds_away("grpo.benign_ratio", grpo.benign_ratio, "grpo.prompts_per_step", grpo.prompts_per_step): (
            _is_lost(grpo.benign_ratio, grpo.prompts_per_step)
        ),
        _rounds_away(
            "warm_start.benign_share", warm_start.benign_share, "warm_start.rows_per_step", warm_start.rows_per_step
        ): warm_start.steps > 0 and _is_lost(warm_start.benign_share, warm_start.rows_per_step),
        f"grpo.benign_ratio = {grpo.benign_ratio:g}, and balance.benign_rows = 0 leaves no ordinary prompts; say "
        "grpo.benign_ratio = 0, or keep some": grpo.benign_ratio > 0 and not guarded,
        f"grpo.minibatches = {grpo.minibatches}: a step has grpo.prompts_per_step = {grpo.prompts_per_step} prompts to "
        f"split; allowed is up to {grpo.prompts_per_step}": grpo.minibatches > grpo.prompts_per_step,
        f"reward.draws = {reward.draws}: completions.per_prompt = {completions.per_prompt} are sampled; allowed is up "
        f"to {completions.per_prompt}": (reward.draws or 0) > completions.per_prompt,
        f"a reward model would have {rows} rows, the least of balance.rows_per_category = {balance.rows_per_category}, "
        f"completions.prompts_per_category = {completed} and reward.max_rows = {reward.max_rows}; {MIN_ROWS} or more "
        "are needed": rows < MIN_ROWS,
        f"balance.benign_rows = {balance.benign_rows}: the guard's reward model needs {MIN_ROWS} or more; 0 leaves the "
        "guard out": 0 < balance.benign_rows < MIN_ROWS,
        f"scaling.clip = {list(scaling.clip or ())}: the lower bound comes first; allowed is a_min <= a_max": (
            scaling.clip is not None and scaling.clip[0] > scaling.clip[1]
        ),
        f"sources.evaluation_files and sources.files both name {_shared(settings)}: no row of it could be trained on; "
        "leave it out of one": bool(_shared(settings)),
    }
    return [rule for rule, applies in rules.items() if applies]


def _is_lost(share: float, count: int) -> bool:
    return 0 < share < 1 and round(share * count) in (0, count)


def _rounds_away(name: str, share: float, of: str, count: int) -> str:
    kind = "all" if round(share * count) else "none"
    nearest = (count - 1) / count if kind == "all" else 1 / count
    works = f"{nearest:.3g} is the nearest that works" if count > 1 else "no share between 0 and 1 does of one prompt"
    return f"{name} = {share:g} of {of} = {count} rounds to {kind}; {works}, or raise {of}"


def _shared(settings: "Settings") -> str:
    return ", ".join(sorted({*settings.sources.files} & {*settings.sources.evaluation_files}))
