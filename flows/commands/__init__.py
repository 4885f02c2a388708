"""What `dr-irl` does at the terminal, one module per group of commands, and what they share."""
