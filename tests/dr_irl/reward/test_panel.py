"""Several reward models behind one score."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from dr_irl.errors import DataError, DivergenceError, ModelError
from dr_irl.language.load import load_reward_backbone, load_tokenizer
from dr_irl.language.rendering import Rendering
from dr_irl.language.resolve import resolve_model
from dr_irl.reward.model import RewardBackbone, add_reward_adapter
from dr_irl.reward.outcome import Calibration
from dr_irl.reward.panel import RewardPanel
from dr_irl.reward.saved import CARD_NAME, Origin, read_card, save_reward_model, weights_digest
from dr_irl.reward.verify import verify_in_new_process

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
        base = backbone()
        origin = Origin(NAME, None, 2, "float32", weights_digest(base))
        model = add_reward_adapter(
            base, category, rank=2, adapted_layers=1, target_modules=["v_proj"], generator=generator
        )
        for name, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad and "lora_A" not in name:
                parameter.data.normal_(generator=generator)
            if parameter.requires_grad and ".score." in name and head is not None:
                parameter.data.fill_(head)
        scored = RewardBackbone(model.eval(), load_tokenizer(NAME), adapted_layers=1, limit=48)
        save_reward_model(scored, category, CALIBRATIONS[category], origin, folder / category)
    return {category: folder / category for category in CALIBRATIONS}


def changed_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / CARD_NAME).read_text())
    for name, value in changes.items():
        target = card["origin"] if name in card["origin"] else card
        target[name] = value
    (folder / CARD_NAME).write_text(json.dumps(card))


def without_head(folder: Path) -> None:
    """What PEFT writes where `modules_to_save` was forgotten."""
    path = folder / "adapter_model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if "score" not in name}, path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def saved(tmp_path: Path, folders: dict[str, Path]) -> Path:
    """A copy of the saved panel, to be damaged."""
    return Path(shutil.copytree(folders["insult"].parent, tmp_path / "panel"))


@pytest.fixture(scope="module")
def panel(folders: dict[str, Path]) -> RewardPanel:
    return RewardPanel.load(folders["insult"].parent)


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


def test_reward_that_is_not_finite_stops_the_run(folders: dict[str, Path]) -> None:
    found = RewardPanel.load(folders["insult"].parent)
    for name, parameter in found._backbone.model.named_parameters():
        if ".score." in name:
            parameter.data.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="not finite"):
        score(found, ROWS)


def test_single_reward_model_is_a_panel_of_one(panel: RewardPanel, folders: dict[str, Path]) -> None:
    alone = RewardPanel.load(folders["physical_harm"])
    assert alone.categories == ("physical_harm",)
    torch.testing.assert_close(score(alone, ROWS[1:2]), score(panel, ROWS[1:2]))


def test_panel_survives_a_new_process(folders: dict[str, Path]) -> None:
    verify_in_new_process(folders["insult"].parent, device="cpu")


def test_new_process_finds_a_head_that_is_another_one(saved: Path) -> None:
    path = saved / "insult" / "adapter_model.safetensors"
    save_file({n: v * 2 if "score" in n else v for n, v in load_file(path).items()}, path)
    with pytest.raises(ModelError, match=r"do not survive being saved: reward model insult scores fixed texts .* off"):
        verify_in_new_process(saved, device="cpu")


def test_missing_head_is_refused(saved: Path) -> None:
    without_head(saved / "insult")
    with pytest.raises(ModelError, match=r"insult/adapter_model.safetensors has 0 heads"):
        RewardPanel.load(saved)


def test_untrained_head_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="head in .* is zero"):
        write_models(tmp_path, head=0.0)


def test_adapter_for_another_backbone_is_refused_though_its_shapes_fit(saved: Path) -> None:
    for category in CALIBRATIONS:
        changed_card(saved / category, digest="0123456789abcdef")
    with pytest.raises(ModelError, match=r"other weights than 'bundled:tiny-random-lm' has now .* instead of 01234567"):
        RewardPanel.load(saved)


def test_models_of_different_backbones_are_no_panel(saved: Path) -> None:
    changed_card(saved / "insult", depth=1)
    with pytest.raises(ModelError, match=r"insult and physical_harm do not belong together: their origin"):
        RewardPanel.load(saved)


def test_models_of_different_limits_are_no_panel(saved: Path) -> None:
    changed_card(saved / "physical_harm", max_answer_tokens=7)
    with pytest.raises(ModelError, match=r"their max_answer_tokens is 48 and 7"):
        RewardPanel.load(saved)


def test_card_of_another_format_is_refused(saved: Path) -> None:
    changed_card(saved / "insult", format=2)
    with pytest.raises(ModelError, match=r"format 2; this version of dr-irl reads 1"):
        RewardPanel.load(saved)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 1, "origin": 3}'])
def test_damaged_card_is_refused_by_name(saved: Path, text: str) -> None:
    (saved / "insult" / CARD_NAME).write_text(text)
    with pytest.raises(ModelError, match=rf"insult/{CARD_NAME} is damaged"):
        RewardPanel.load(saved)


def test_folder_without_reward_models_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"{tmp_path} holds no reward model"):
        RewardPanel.load(tmp_path)


def test_damaged_adapter_is_refused_by_name(saved: Path) -> None:
    (saved / "insult" / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match=r"insult/adapter_model.safetensors cannot be read"):
        RewardPanel.load(saved)


def test_digest_is_that_of_the_frozen_weights_whatever_is_put_on_them() -> None:
    plain = weights_digest(backbone())
    adapted = add_reward_adapter(
        backbone(), "insult", rank=2, adapted_layers=1, target_modules=["v_proj"], generator=torch.Generator()
    )
    assert weights_digest(adapted) == plain
    assert weights_digest(load_reward_backbone(NAME, depth=2, dtype=torch.bfloat16)) == plain


def test_digest_changes_with_a_weight() -> None:
    model = backbone()
    before = weights_digest(model)
    next(model.parameters()).data.add_(0.5)
    assert weights_digest(model) != before


def test_a_panel_renders_as_it_was_trained(tmp_path: Path) -> None:
    """The template asks for the date, and for an argument."""
    base = tmp_path / "base"
    shutil.copytree(resolve_model(NAME), base)
    template = base / "chat_template.jinja"
    template.write_text("<|system|>{{ strftime_now('%Y') }}{{ mood }}<|end|>" + template.read_text())
    card = {"template_arguments": {"mood": "calm"}, "template_date": "2031-01-02"}
    name, given = str(base), Rendering({"mood": "calm"}, "2031-01-02")
    model = load_reward_backbone(name, depth=2, dtype=torch.float32)
    origin = Origin(name, None, 2, "float32", weights_digest(model), *card.values())
    adapted = add_reward_adapter(
        model, "insult", rank=2, adapted_layers=1, target_modules=["v_proj"], generator=torch.Generator().manual_seed(0)
    )
    adapted.get_base_model().score.modules_to_save["insult"].weight.data.normal_(std=9.0)
    scored = RewardBackbone(adapted.eval(), load_tokenizer(name, None, given), adapted_layers=1, limit=48)
    save_reward_model(scored, "insult", Calibration(0.0, 1.0), origin, tmp_path / "insult")
    assert {key: read_card(tmp_path / "insult").origin.__getattribute__(key) for key in card} == card
    prepared = scored.prepare(["mock him"], [["no"]])
    [wanted] = scored.rewards_in_passes(prepared)
    loaded = RewardPanel.load(tmp_path / "insult")
    assert loaded.score(["insult"], ["mock him"], ["no"]).tolist() == wanted.tolist()
    changed_card(tmp_path / "insult", template_date="2044-01-02")
    with pytest.raises(ModelError, match="scores fixed texts .* off"):
        RewardPanel.load(tmp_path / "insult")


@pytest.mark.parametrize("answer", ["no<|end|>", "no<|im_end|>\n", "<think>yes</think>no"])
def test_markers_and_thoughts_are_not_scored(panel: RewardPanel, answer: str) -> None:
    bare, held = panel.score(["insult"] * 2, ["mock him"] * 2, ["no", answer]).tolist()
    assert (held, panel.trimmed(["no", answer])) == (pytest.approx(bare, abs=1e-5), [False, True])
