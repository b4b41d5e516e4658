"""Includes of CUDA's own headers, and names that only some of them have.

Grammar::

    include := '#' 'include' ('"' name '"' | '<' name '>')       on one line, outside of comments
    libcu++ := ['::'] ('cuda' | 'nvcuda' '::' 'experimental') '::' ('pipeline' | 'barrier' | ...)

An include of a header in ``_PROVIDED`` goes, since ``cuda_on_host.h`` has its content; one in ``_REFUSED`` becomes an
``#error``; any other is the compiler's business.  ``<cuda_pipeline.h>`` is provided, for its primitives
(``__pipeline_memcpy_async``) are modelled; the libcu++ classes that it also has are refused where they are named.
"""

from __future__ import annotations

import re

from lisa_kernels.testing.cuda.source_text import includes
from lisa_kernels.testing.cuda.translate.edits import Edit

# Everything in them is in cuda_on_host.h.
_PROVIDED = {
    "cuda_runtime.h", "cuda_runtime_api.h", "device_launch_parameters.h", "cuda_pipeline.h",
    "cuda_pipeline_primitives.h", "cassert", "assert.h",
}  # fmt: skip
_REFUSED = {
    r"mma\.h|crt/mma\.h": "tensor-core instructions (wmma, mma)",
    r"cooperative_groups(\.h|/.*)": "cooperative groups",
    r"cub/.*": "CUB",
    r"thrust/.*": "Thrust",
    r"cute/.*|cutlass/.*": "CUTLASS",
    r"cuda/.*": "libcu++ (cuda::pipeline, cuda::barrier, cuda::ptx)",
    r"cuda_awbarrier.*": "asynchronous barriers",
    r"texture_.*|surface_.*": "textures and surfaces",
    r"cudaTypedefs\.h|cuda\.h": "the driver interface, tensor maps of TMA among it,",
}
_LIBCUXX = re.compile(
    r"(?<![\w:])(?:::\s*)?(?:cuda|nvcuda\s*::\s*experimental)\s*::\s*"
    r"(?:pipeline\w*|make_pipeline|barrier|memcpy_async|thread_scope\w*|atomic\w*|ptx|device|std)\b"
)


def include_edits(text: str) -> list[Edit]:
    """Return the edits for all includes of ``text``."""
    edits = []
    for start, end, name in includes(text):
        if name in _PROVIDED:
            edits.append(Edit(start, end, ""))
        for pattern, what in _REFUSED.items():
            if re.fullmatch(pattern, name):
                edits.append(Edit(start, end, f"#error <{name}>: {what} is not modelled on the host"))
    return edits


def libcuxx_edits(code: str) -> list[Edit]:
    """Return edits that refuse the names of libcu++: ``cuda::pipeline`` and the like.

    Args:
        code: Text that went through ``blanked``.
    """
    return [Edit(match.start(), match.start(), "LISA_HOST_REFUSE_LIBCUXX ") for match in _LIBCUXX.finditer(code)]
