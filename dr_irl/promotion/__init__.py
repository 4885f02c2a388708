"""Champion and challenger: what may replace the model in use, and where published models lie."""
