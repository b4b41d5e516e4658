"""What a kernel did wrong on the host."""

from __future__ import annotations

import re

# Every kind that csrc/testing or a sanitizer reports.
KINDS = (
    "wrong sync mask", "divergent warp", "divergent barrier", "deadlock", "out of bounds", "stack overflow",
    "shared memory", "async copy", "undefined behaviour", "assertion", "trap", "launch refused", "hang",
)  # fmt: skip
_ADDRESS = re.compile(r"ERROR: AddressSanitizer: (?P<what>[\w-]+)")
_ACCESS = re.compile(r"^(?:READ|WRITE) of size \d+", re.MULTILINE)
_FRAME = re.compile(r"#\d+ 0x[0-9a-f]+ in (?P<function>.+?) (?P<place>\S+:\d+)")
_UNDEFINED = re.compile(r"^(?P<place>\S+?:\d+):\d+: runtime error: (?P<what>.+)$", re.MULTILINE)
_RUNNING = re.compile(r"^lisa_host: (?P<thread>.+)$", re.MULTILINE)


class HostFault(RuntimeError):  # noqa: N818 - a fault of the kernel, not of the program
    """A launch that ended because of what the kernel did.

    Attributes:
        kind: One of ``KINDS``.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


def from_sanitizer(report: str) -> HostFault | None:
    """Return the fault that a report of AddressSanitizer or UndefinedBehaviorSanitizer is about, or None.

    Args:
        report: What the process wrote to its standard error.
    """
    running = _RUNNING.search(report)
    thread = f": {running['thread']}" if running else ""
    if match := _UNDEFINED.search(report):
        # Arrays whose size the compiler knows are checked by index, before the address is formed.
        kind = "out of bounds" if "out of bounds" in match["what"] else "undefined behaviour"
        return HostFault(kind, f"{match['what']}, {match['place']}{thread}")
    if match := _ADDRESS.search(report):
        access = _ACCESS.search(report)
        frame = _FRAME.search(report)
        where = f", {frame['place']}" if frame else ""
        kind = "stack overflow" if match["what"] == "stack-overflow" else "out of bounds"
        return HostFault(kind, f"{access[0] + ', ' if access else ''}{match['what']}{where}{thread}")
    return None
