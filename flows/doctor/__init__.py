"""Is everything there that a run needs, and what to do about what is not."""
