"""Scale the advantages of one's own policy-gradient loop: data hardness times model responsiveness, per prompt.

The numbers stand for one batch: two prompts, four sampled answers each. `rewards` come from any reward model.
"""

import torch

import dr_irl
from dr_irl.policy.advantages import group_advantages

categories = ["insult", "privacy_property"]
demonstration_rewards = torch.tensor([2.0, 1.5])  # R(x, y)
rewards = torch.tensor([[1.8, -0.5, 0.1, -1.0], [1.4, 1.2, 1.5, 0.9]])  # R(x, o_k)
distances = (torch.tensor([0.7, 0.3]), torch.tensor([0.5, 0.4]))  # of each prompt, and the mean of its category

rule = dr_irl.ScalingRule(reference="ema", kappa=1.0)
mean_gaps: dict[str, float] = {}  # moves from batch to batch
for step in range(2):
    gaps = dr_irl.reward_gaps(demonstration_rewards, rewards)
    factors = dr_irl.scale_factors(rule, categories, distances, gaps, mean_gaps)
    mean_gaps = factors.mean_gaps
    advantages = group_advantages(rewards, factors.alpha, tolerance=1e-4)
    print(f"step {step}: alpha {[round(a, 3) for a in factors.alpha.tolist()]}")
    # loss = -(advantages * log_probabilities).mean() in your loop
    assert advantages.sum(dim=1).abs().max() < 1e-5  # a group's advantages still sum to zero
