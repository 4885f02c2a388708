"""Stage 2: one reward model per category by maximum-likelihood inverse reinforcement learning."""
