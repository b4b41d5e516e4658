"""LISA, Language-Image-Speech Alignment: models built on lisa_kernels. First cut: a speech recogniser."""
