"""Dynamic reward scaling: data hardness times model responsiveness."""
