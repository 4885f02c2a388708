"""Scores rows of any file with the reward model of each row's category."""

from dataclasses import dataclass

from dr_irl.errors import DataError
from dr_irl.reward.panel import RewardPanel
from dr_irl.reward.rows import Batch, Rows
from dr_irl.reward.scored import with_scores


@dataclass(slots=True)
class Tally:
    """What was scored of one category."""

    rows: int = 0
    total: float = 0.0
    """Sum of the rewards."""
    cut: int = 0
    """Rows of which only the beginning was scored."""
    trimmed: int = 0
    """Rows whose thoughts, or markers of a turn such as an end token, were left out."""

    @property
    def mean(self) -> float:
        """Mean reward."""
        return self.total / self.rows


class RowScorer:
    """Scores batch after batch and counts by category."""

    def __init__(self, panel: RewardPanel) -> None:
        """Score with the models of `panel`."""
        self._panel = panel
        self.tallies: dict[str, Tally] = {name: Tally() for name in panel.categories}

    def score(self, batch: Batch) -> Rows:
        """Return the rows of a batch with their scores.

        Raises:
            DataError: a row cannot be scored; the message says which.
        """
        try:
            rewards = self._panel.score(batch.categories, batch.prompts, batch.responses).tolist()
        except DataError as error:
            raise self._placed(batch, error) from error
        cut = self._panel.cut(batch.prompts, batch.responses)
        trimmed = self._panel.trimmed(batch.responses)
        for category, reward, short, bare in zip(batch.categories, rewards, cut, trimmed, strict=True):
            tally = self.tallies[category]
            tally.rows, tally.total = tally.rows + 1, tally.total + reward
            tally.cut, tally.trimmed = tally.cut + short, tally.trimmed + bare
        return with_scores(batch.rows, rewards, cut)

    def _placed(self, batch: Batch, error: DataError) -> DataError:
        """Find the row that an error is about: the longest prompt first, for that is what can be wrong with one."""
        for row in sorted(range(len(batch.prompts)), key=lambda i: -len(batch.prompts[i])):
            try:
                self._panel.score([batch.categories[row]], [batch.prompts[row]], [batch.responses[row]])
            except DataError as alone:
                return DataError(f"{batch.place(row)}: {alone}")
        return error
