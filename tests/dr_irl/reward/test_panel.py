"""Several reward models behind one score."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from dr_irl.errors import DataError, DivergenceError
from dr_irl.language.load import load_reward_backbone, load_tokenizer
from dr_irl.reward.model import add_reward_adapter
from dr_irl.reward.panel import RewardPanel, save_reward_model
from dr_irl.reward.train import Calibration

NAME = "bundled:tiny-random-lm"
CALIBRATIONS = {"insult": Calibration(0.5, 2.0), "physical_harm": Calibration(-1.0, 0.25)}
ROWS = [
    ("insult", "mock him", "no"),
    ("physical_harm", "hurt him", "I would rather not do that"),
    ("insult", "mock him", "yes, gladly"),
    ("physical_harm", "trip her", "sure"),
    ("insult", "laugh at her", ""),
]


def backbone() -> torch.nn.Module:
    return load_reward_backbone(NAME, depth=2, dtype=torch.float32)


def write_models(folder: Path, head: float | None = None) -> dict[str, Path]:
    """Save a random reward model per category; `head` fills the heads instead."""
    for seed, category in enumerate(CALIBRATIONS):
        generator = torch.Generator().manual_seed(seed)
        model = add_reward_adapter(
            backbone(), category, rank=2, adapted_layers=1, target_modules=["v_proj"], generator=generator
        )
        for name, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad and "lora_A" not in name:
                parameter.data.normal_(generator=generator)
            if parameter.requires_grad and ".score." in name and head is not None:
                parameter.data.fill_(head)
        save_reward_model(model, category, CALIBRATIONS[category], folder / category)
    return {category: folder / category for category in CALIBRATIONS}


def load_panel(folders: dict[str, Path]) -> RewardPanel:
    return RewardPanel.load(backbone(), load_tokenizer(NAME), folders, adapted_layers=1, limit=48)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def panel(folders: dict[str, Path]) -> RewardPanel:
    return load_panel(folders)


def score(panel: RewardPanel, rows: list[tuple[str, str, str]]) -> torch.Tensor:
    return panel.score([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])


def plain_score(folders: dict[str, Path], row: tuple[str, str, str]) -> float:
    """What transformers and PEFT alone make of one row, calibrated by hand."""
    category, prompt, answer = row
    model = PeftModel.from_pretrained(backbone(), folders[category]).eval()
    inputs = load_tokenizer(NAME)(f"<|user|>{prompt}<|end|><|assistant|>{answer}<|end|>", return_tensors="pt")
    return (model(**inputs).logits.item() - CALIBRATIONS[category].mean) / CALIBRATIONS[category].std


def test_score_is_the_calibrated_reward_of_the_own_model(panel: RewardPanel, folders: dict[str, Path]) -> None:
    expected = [plain_score(folders, row) for row in ROWS]
    assert score(panel, ROWS).tolist() == pytest.approx(expected, abs=1e-4)


def test_score_together_is_the_score_alone(panel: RewardPanel) -> None:
    alone = torch.cat([score(panel, [row]) for row in ROWS])
    torch.testing.assert_close(score(panel, ROWS), alone, atol=1e-5, rtol=1e-5)


def test_order_of_rows_does_not_matter(panel: RewardPanel) -> None:
    order = [3, 0, 4, 2, 1]
    torch.testing.assert_close(score(panel, [ROWS[i] for i in order]), score(panel, ROWS)[order], atol=1e-5, rtol=1e-5)


def test_same_prompt_in_two_categories_goes_to_both_models(panel: RewardPanel) -> None:
    rows = [("insult", "hi", "no"), ("physical_harm", "hi", "no")]
    alone = torch.cat([score(panel, [row]) for row in rows])
    torch.testing.assert_close(score(panel, rows), alone, atol=1e-5, rtol=1e-5)


def test_models_disagree(panel: RewardPanel) -> None:
    one, two = score(panel, [("insult", "hi", "no"), ("physical_harm", "hi", "no")]).tolist()
    assert abs(one - two) > 1e-2


def test_cross_score_is_the_score_under_each_model(panel: RewardPanel) -> None:
    found = panel.cross_score([r[1] for r in ROWS], [r[2] for r in ROWS])
    for category in CALIBRATIONS:
        expected = score(panel, [(category, prompt, answer) for _, prompt, answer in ROWS])
        torch.testing.assert_close(found[category], expected, atol=1e-5, rtol=1e-5)


def test_nothing_to_score_is_no_error(panel: RewardPanel) -> None:
    assert score(panel, []).tolist() == []


def test_categories_are_those_that_have_a_model(panel: RewardPanel) -> None:
    assert panel.categories == ("insult", "physical_harm")


def test_unknown_category_is_refused_by_name(panel: RewardPanel) -> None:
    with pytest.raises(DataError, match="no reward model for benign; there are insult, physical_harm"):
        score(panel, [("benign", "hi", "hello")])


def test_reward_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match="not finite"):
        score(load_panel(write_models(tmp_path, head=float("nan"))), ROWS)
