"""Benchmarks: every op of ``lisa_kernels`` beside its peers, on the cases of its spec."""
