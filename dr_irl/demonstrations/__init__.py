"""Stage 1: prompts from any source in, category-balanced demonstrations out."""
