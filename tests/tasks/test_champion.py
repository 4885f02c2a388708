"""The champion is brought into the store whole, or not at all."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from dr_irl.errors import ModelError
from dr_irl.language.adapters import POLICY, add_policy_adapter, load_policy_adapter, save_adapter
from dr_irl.language.load import load_causal_lm
from dr_irl.profile import load_settings
from tasks.champion import champion


def job(adapter: Path) -> Any:
    return SimpleNamespace(settings=load_settings("smoke", {"models.champion": str(adapter)}))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    base = load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    policy = add_policy_adapter(base, rank=4, adapted_layers=1, target_modules=["q_proj"], generator=generator)
    save_adapter(policy, POLICY, folder)
    return folder


def test_the_adapter_is_copied_and_loads(adapter: Path, tmp_path: Path) -> None:
    champion(tmp_path, job(adapter))
    base = load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32)
    assert load_policy_adapter(base, tmp_path / "adapter").peft_config[POLICY].r == 4  # pyright: ignore


def test_a_folder_without_weights_is_refused_by_the_name_of_what_it_lacks(adapter: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    (half / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    with pytest.raises(ModelError, match=r"holds no adapter_model.safetensors; it must name an adapter"):
        champion(tmp_path, job(half))


def test_an_adapter_of_another_model_is_refused_in_a_sentence(adapter: Path) -> None:
    base = load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32)
    wider = cast(Any, base.config).__class__(**{**base.config.to_dict(), "hidden_size": base.config.hidden_size * 2})
    with pytest.raises(ModelError, match="does not fit this model: .*size mismatch"):
        load_policy_adapter(type(base)(wider), adapter)
