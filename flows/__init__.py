"""The wiring: which stage hands what to which."""
