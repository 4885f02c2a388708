"""What was found: rates and estimates with their intervals, summaries, comparisons."""
