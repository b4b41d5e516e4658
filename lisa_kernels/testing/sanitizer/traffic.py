"""Counts the bytes that programs ask of memory, tensor by tensor.

What counts is what a program's access asks of the L2 cache, each byte of one access once: another access, and another
program, count again.  It says nothing about which of them hit a cache.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

SECTOR = 32


@dataclasses.dataclass
class TensorTraffic:
    """Bytes of one tensor.

    Attributes:
        loaded, stored, atomic: Asked for by all accesses of all programs.
        read, written: Distinct bytes: what a perfect cache would move.  Known when the block has ended.
        sectors: Bytes of the 32-byte sectors that the loads touch.
    """

    loaded: int = 0
    stored: int = 0
    atomic: int = 0
    read: int = 0
    written: int = 0
    sectors: int = 0

    @property
    def read_amplification(self) -> float:
        """Bytes loaded over distinct bytes read; 0 where none was."""
        return self.loaded / self.read if self.read else 0.0

    @property
    def write_amplification(self) -> float:
        """Bytes stored, atomics included, over distinct bytes written; 0 where none was."""
        return (self.stored + self.atomic) / self.written if self.written else 0.0

    @property
    def sector_efficiency(self) -> float:
        """Bytes loaded over the bytes of the sectors touched; 0 where none was loaded."""
        return self.loaded / self.sectors if self.sectors else 0.0


@dataclasses.dataclass
class Traffic:
    """Bytes of all launches of a block; printing it gives a table.

    Attributes:
        tensors: By name.
        programs: How many ran.
        largest_working_set: Distinct bytes that one program touches, the largest.
        working_sets: Sum of those of all programs.
        lanes, lanes_on: Of all accesses.
    """

    tensors: dict[str, TensorTraffic] = dataclasses.field(default_factory=dict)
    programs: int = 0
    largest_working_set: int = 0
    working_sets: int = 0
    lanes: int = 0
    lanes_on: int = 0

    def __getitem__(self, name: str) -> TensorTraffic:
        return self.tensors[name]

    def of(self, name: str) -> TensorTraffic:
        """Return the counters of a tensor, new ones where there are none."""
        return self.tensors.setdefault(name, TensorTraffic())

    @property
    def mean_working_set(self) -> float:
        return self.working_sets / self.programs if self.programs else 0.0

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        width = max((len(name) for name in self.tensors), default=6)
        head = f"{'tensor':{width}}  {'loaded':>12} {'x read':>7} {'sectors':>7}"
        yield f"{head}  {'stored':>12} {'atomic':>10} {'x written':>9}"
        for name, count in self.tensors.items():
            line = f"{name:{width}}  {count.loaded:12,} {_ratio(count.read_amplification, 'x'):>7}"
            line += f" {_ratio(100 * count.sector_efficiency, '%'):>7}  {count.stored:12,} {count.atomic:10,}"
            yield f"{line} {_ratio(count.write_amplification, 'x'):>9}".rstrip()
        on = 100 * self.lanes_on / self.lanes if self.lanes else 0
        sets = f"{self.mean_working_set:,.0f} bytes on average, {self.largest_working_set:,} at most"
        yield f"{self.programs} programs; a program touches {sets}; {on:.0f} % of lanes on"


def _ratio(value: float, unit: str) -> str:
    return "-" if value == 0 else f"{value:.0f}{unit}" if unit == "%" else f"{value:.2f}{unit}"
