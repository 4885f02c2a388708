"""The dynamic reward scale: data hardness and model responsiveness as one factor per prompt."""

from jaxtyping import Float
from torch import Tensor

from dr_irl.scaling.options import Combination


def combine_factors(
    data: Float[Tensor, " prompts"], model: Float[Tensor, " prompts"], *, how: Combination, weight: float = 0.5
) -> Float[Tensor, " prompts"]:
    """a_i = aD_i * aM_j (`product`), w aD + (1 - w) aM (`sum`), one of the two alone, or 1 (`none`)."""
    match how:
        case "product":
            return data * model
        case "sum":
            return weight * data + (1 - weight) * model
        case "data":
            return data
        case "model":
            return model
        case "none":
            return data.new_ones(data.shape)


def bound_factors(
    alpha: Float[Tensor, " prompts"], *, clip: tuple[float, float] | None, rescale: bool
) -> Float[Tensor, " prompts"]:
    """Clip to [a_min, a_max], then rescale to mean 1 over the batch, each by option."""
    if clip is not None:
        alpha = alpha.clamp(*clip)
    if rescale and len(alpha):
        alpha = alpha / alpha.mean()
    return alpha
