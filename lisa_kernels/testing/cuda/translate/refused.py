"""Words that no macro can refuse, because the compiler knows them or leaves them out by itself.

Grammar::

    assembly     := 'asm' | '__asm__' | '__asm'
    architecture := '#' ('if' | 'elif') ... '__CUDA_ARCH__' ...      a line without 'LISA_ON_HOST'
"""

from __future__ import annotations

import re

from lisa_kernels.testing.cuda.translate.edits import Edit


def refused_edits(code: str) -> list[Edit]:
    """Return edits after which inline PTX, and choices by architecture, are errors.

    Args:
        code: Text that went through ``blanked``.
    """
    edits = [Edit(m.start(), m.end(), "LISA_HOST_REFUSE_ASM") for m in re.finditer(r"\b(?:asm|__asm__|__asm)\b", code)]
    for match in re.finditer(r"^[ \t]*#[ \t]*(?:el)?if[^\n]*\b__CUDA_ARCH__\b[^\n]*", code, re.MULTILINE):
        if "LISA_ON_HOST" not in match[0]:
            message = "__CUDA_ARCH__ is not defined on the host, which leaves this out: add `|| defined(LISA_ON_HOST)`"
            edits.append(Edit(match.start(), match.end(), f"#error {message}"))
    return edits
