"""Real engines on real kernels; see README.md."""
