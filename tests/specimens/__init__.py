"""Kernels that no op ships: what the proving ground is proved on."""
