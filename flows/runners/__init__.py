"""What builds the stages of a run: threads, processes, or a cluster."""
