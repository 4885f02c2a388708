"""Stage 4: refusal, over-refusal, usefulness and collapse, each with its count and interval."""
