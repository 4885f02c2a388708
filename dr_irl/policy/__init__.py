"""The pure pieces of GRPO."""
