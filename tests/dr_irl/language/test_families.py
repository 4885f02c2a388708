"""Every family of causal language models in the installed transformers, by a tiny random model of each."""

import re
from pathlib import Path

import pytest
import torch
from families import FAMILIES, IMPORTANT, NOT_TRIED, tiny_causal_lm
from model_table import ROW, Row, measured
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dr_irl.errors import ModelError
from dr_irl.language.adapters import (
    POLICY,
    add_policy_adapter,
    load_policy_adapter,
    merge_adapter_into,
    save_adapter,
    share_weights,
)
from dr_irl.language.chat import prompt_ids
from dr_irl.language.decoders import open_decoder
from dr_irl.language.load import load_reward_backbone, load_tokenizer
from dr_irl.language.logprobs import answer_logprobs
from dr_irl.language.own_head import head_of
from dr_irl.language.packing import Bundle, pack
from dr_irl.language.proof.check import find_route
from dr_irl.language.route import set_route
from dr_irl.language.sampling import CachedPrefixSampler
from dr_irl.reward.model import RewardBackbone, add_reward_adapter
from dr_irl.reward.saved import load_adapters

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
TOLD = {row["family"]: Row(**row.groupdict()) for row in ROW.finditer(PAGE.read_text())}
USED = [family for family, row in TOLD.items() if row.scores not in ("refused", "not tried")]
PROJECTIONS = ("q_proj", "v_proj", "o_proj")
IDS = torch.tensor([[5, 40, 41, 42, 3, 60, 61, 62, 63, 64, 65, 66]])


def either_suite(families: list[str] | tuple[str, ...]) -> list:
    """Leave families that few people bring to the slow tests."""
    return [pytest.param(each, marks=() if each in IMPORTANT else pytest.mark.slow) for each in families]


def routed(family: str) -> PreTrainedModel:
    model = tiny_causal_lm(family)
    set_route(model, find_route(model, family))
    return model


def moved(model: PreTrainedModel) -> PeftModel:
    """Put an adapter on a model that changes something."""
    generator = torch.Generator().manual_seed(0)
    adapted = add_policy_adapter(model, rank=2, adapted_layers=2, target_modules=PROJECTIONS, generator=generator)
    for name, parameter in sorted(adapted.named_parameters()):
        if "lora_B" in name:
            parameter.data.normal_(std=0.2, generator=generator)
    return adapted


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer("bundled:tiny-random-lm")


def test_the_page_has_every_family() -> None:
    assert set(TOLD) == set(FAMILIES)


def test_what_people_bring_is_looked_at() -> None:
    assert set(IMPORTANT) <= set(USED) and not set(IMPORTANT) & set(NOT_TRIED)


@pytest.mark.parametrize("family", either_suite(FAMILIES))
def test_the_page_says_what_is_measured(family: str) -> None:
    assert TOLD[family] == measured(family)


@pytest.mark.parametrize("family", either_suite(USED))
def test_logprobs_are_those_of_the_own_forward_pass(family: str) -> None:
    model = routed(family)
    bundles = [
        Bundle([5, 6, 40, 41], [[50, 51, 52], [60]]),
        Bundle([5, 6, *range(90, 112)], [[80, 81, 82, 83], [70, 71]]),
    ]
    packed = pack(bundles, pad=0, shared=2)
    decoder = open_decoder(model, upper_layers=2)
    found = answer_logprobs(decoder.states(decoder.features(packed), packed), head_of(model), packed).logprobs
    pairs = [(list(b.prompt), list(a)) for b in bundles for a in b.answers]
    for row, (prompt, answer) in enumerate(pairs):
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        own = logits.float().log_softmax(dim=-1)[range(len(answer)), answer]
        torch.testing.assert_close(found[row, : len(answer)], own, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", either_suite(USED))
def test_greedy_answers_are_those_of_generate(family: str, tokenizer: PreTrainedTokenizerBase) -> None:
    model = routed(family)
    prompts = ["hello", "What is the capital of France?"]
    sampler = CachedPrefixSampler(model, tokenizer, max_new_tokens=6, temperature=0.0)
    found = [sample.token_ids for (sample,) in sampler.sample(prompts, per_prompt=1, generator=torch.Generator())]
    for ids, ours in zip(prompt_ids(tokenizer, prompts), found, strict=True):
        row = torch.tensor([ids])
        options = {"do_sample": False, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
        own = model.generate(input_ids=row, attention_mask=torch.ones_like(row), max_new_tokens=6, **options)
        assert tuple(own[0, len(ids) :].tolist()) == ours


@pytest.mark.parametrize("family", either_suite(USED))
def test_an_adapter_is_loaded_by_plain_peft_and_merged(family: str, tmp_path: Path) -> None:
    try:
        adapted = moved(tiny_causal_lm(family))
    except ModelError as error:  # layers without attention of the usual kind
        assert re.search("has no projection|lists of layers", str(error))
        return
    expected = adapted(input_ids=IDS).logits
    save_adapter(adapted, POLICY, tmp_path)
    plain = PeftModel.from_pretrained(tiny_causal_lm(family), str(tmp_path))
    torch.testing.assert_close(plain(input_ids=IDS).logits, expected)
    assert not torch.allclose(tiny_causal_lm(family)(input_ids=IDS).logits, expected, atol=1e-5)
    base = tiny_causal_lm(family)
    merged = share_weights(base)
    merge_adapter_into(merged, load_policy_adapter(base, tmp_path))
    torch.testing.assert_close(merged(input_ids=IDS).logits, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("family", either_suite(USED))
def test_a_reward_head_is_saved_and_loaded(family: str, tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    tiny_causal_lm(family).save_pretrained(tmp_path / "model")

    def backbone() -> PreTrainedModel:
        return load_reward_backbone(str(tmp_path / "model"), depth=2, dtype=torch.float32)

    def rewards(model: PeftModel) -> torch.Tensor:
        scored = RewardBackbone(model, tokenizer, adapted_layers=1, limit=16)
        return scored.rewards(scored.prepare(["hello", "why?"], [["yes", "no, not at all"], ["because"]]))

    generator = torch.Generator().manual_seed(0)
    options = {"rank": 2, "adapted_layers": 1, "target_modules": PROJECTIONS, "generator": generator}
    try:
        model = add_reward_adapter(backbone(), "privacy", **options)
    except ModelError as error:
        assert family not in IMPORTANT, error
        return
    for _, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            parameter.data.normal_(std=0.3, generator=generator)
    expected = rewards(model)
    save_adapter(model, "privacy", tmp_path / "adapter")
    torch.testing.assert_close(rewards(load_adapters(backbone(), {"privacy": tmp_path / "adapter"})), expected)
    assert expected.unique().numel() == 3
