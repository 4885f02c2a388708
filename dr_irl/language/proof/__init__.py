"""Which way of computing a model's numbers is right: held against its own `forward`, once, when it is first loaded."""
