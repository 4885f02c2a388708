"""What a report shows. Plain data: the writer reads no store and loads no model."""

from dataclasses import dataclass

from dr_irl.records import Answer, ScalingRecord, StepRecord
from dr_irl.results.summaries import BalanceSummary, Comparison, ModelSummary, RewardSummary


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything one run's report is written from."""

    run_id: str
    title: str
    created: str
    """ISO 8601, UTC."""
    profile: str
    settings: dict[str, object]
    environment: dict[str, str]
    """Library versions, machine, device."""
    balance: BalanceSummary
    rewards: list[RewardSummary]
    cross_accuracy: dict[str, dict[str, float]]
    """Reward model's category -> category of the rows -> pairwise accuracy."""
    steps: list[StepRecord]
    """What GRPO logged. Names: see docs/metrics.md."""
    scaling: list[ScalingRecord]
    models: list[ModelSummary]
    """In the order unaligned, warm start (where there is one), aligned."""
    comparisons: list[Comparison]
    answers: dict[str, list[Answer]]
    """Model name -> all its judged answers, in the same order for every model."""
    stage_seconds: dict[str, float]
    """Stage -> wall time of its build, in this run or an earlier one."""
