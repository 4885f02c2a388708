"""GRPO by TRL: what its processes are given, and what they do."""
