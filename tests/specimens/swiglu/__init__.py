"""A whole op in small, with a backend of every kind: what verification and offline compilation are proved on."""
