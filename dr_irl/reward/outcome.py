"""What training a reward model leaves behind besides the weights: its learning curve and its calibration."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

_MIN_STD = 1e-3


@dataclass(frozen=True, slots=True)
class Calibration:
    """What makes the rewards of one category comparable with the others': (R - mean) / std."""

    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of the learning curve."""

    step: int
    """Steps done."""
    round: int
    loss: float
    """Mean training loss of the epoch."""
    validation_loss: float
    accuracy: float
    """On validation rows: share of pairs in which the demonstration beats the other answer."""
    gap: float
    """On validation rows: mean of R(x, y) - R(x, o)."""

    def better_than(self, other: "Epoch | None") -> bool:
        """Compare by accuracy, and by loss where accuracies are equal."""
        return other is None or (self.accuracy, -self.validation_loss) > (other.accuracy, -other.validation_loss)


@dataclass(frozen=True, slots=True)
class RewardTraining:
    """What training left behind besides the weights."""

    calibration: Calibration
    gaps: list[float]
    """On validation rows: calibrated R(x, y) - R(x, o), pair by pair; the demonstration wins where it is positive."""
    losses: list[float]
    """Of every step."""
    curve: list[Epoch]
    best: int
    """Place in `curve` of the weights that were kept."""
    train_rows: int


def calibrate(rewards: Float[Tensor, " rows"]) -> Calibration:
    """Mean and standard deviation over demonstrations and completions together."""
    return Calibration(mean=float(rewards.mean()), std=max(float(rewards.std()), _MIN_STD))
