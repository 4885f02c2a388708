"""What any transformer needs: loading, chat rendering, sampling, log-probabilities, sentence embeddings."""
