"""Mutants that change nothing, looked up by hand, one by one.

Of PTX: because of where things lie in shared memory.  By line of the PTX of Triton 3.9.0; another version's mutants
count as holes until somebody looks.  Byte ranges are those of the first problem, printed from the addresses that each
instruction touches.

Of CUDA source: by line of the specimen, whatever runs it.
"""

from __future__ import annotations

_EPILOGUE = (
    "It stands before the epilogue, whose scratch is bytes 0 to 8191. {what} {where}: the two never meet, and nothing "
    "reads those bytes any more."
)
_LAST_COPIES = "The group it leaves unfinished is the last one committed, the copies"
_NEWEST_WRITES = "Since the barrier before it only copies were made,"

# (kernel, means, line)
KNOWN_HARMLESS = {
    ("matmul", "PTX sm_80 of Triton", 622): _EPILOGUE.format(what=_LAST_COPIES, where="of b into bytes 8192 to 16383"),
    ("matmul", "PTX sm_90 of Triton", 434): _EPILOGUE.format(what=_LAST_COPIES, where="of b into bytes 12288 to 24575"),
    ("attention", "PTX sm_80 of Triton", 832): _EPILOGUE.format(
        what=_LAST_COPIES, where="of v into bytes 12288 to 16383"
    ),
    ("attention", "PTX sm_80 of Triton", 833): _EPILOGUE.format(
        what=_NEWEST_WRITES, where="of k and v into bytes 8192 to 16383"
    ),
    ("attention", "PTX sm_90 of Triton", 739): _EPILOGUE.format(
        what=_LAST_COPIES, where="of v into bytes 16384 to 24575"
    ),
    ("attention", "PTX sm_90 of Triton", 740): _EPILOGUE.format(
        what=_NEWEST_WRITES, where="of k and v into bytes 8192 to 24575"
    ),
}

_ONE_ROUND_MORE = "One round more where the size is a multiple of the tile, with every access of it masked off."
# (kernel, kind, line)
KNOWN_HARMLESS_CUDA = {
    ("matmul", "mask", 17): _ONE_ROUND_MORE,
    ("scan", "mask", 31): _ONE_ROUND_MORE,
    ("flip", "mask", 29): _ONE_ROUND_MORE,
    ("flip", "mask", 30): "Starts a copy of no bytes where the size is a multiple of the piece; nobody reads it.",
    ("scan", "mask", 14): "One shuffle more, by 32 lanes, whose result no lane takes.",
    ("softmax", "index", 29): (
        "Lane 0 of each warp, which writes, gets the same warp; or lane 31 writes in its place. All lanes hold one sum."
    ),
}
