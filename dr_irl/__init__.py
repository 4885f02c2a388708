"""DR-IRL: inverse reinforcement learning with dynamic reward scaling for LLM alignment."""
