"""One HTML file per run."""
