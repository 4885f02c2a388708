"""The samplers that settings may name: a class each and a line here; another package brings one by an entry point.

A sampler is made as `CachedPrefixSampler` is and does what `dr_irl.language.sampling.Sampler` says. Light to import.
"""

from typing import TYPE_CHECKING

from dr_irl.registry import Registry

if TYPE_CHECKING:
    from dr_irl.language.sampling import MakeSampler

SAMPLERS: Registry["MakeSampler"] = Registry(
    "sampler", "dr_irl.samplers", {"cached-prefix": "dr_irl.language.sampling:CachedPrefixSampler"}
)
"""Name in `models.sampler` -> what makes a sampler of a model."""
