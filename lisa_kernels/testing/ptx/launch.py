"""A launch: arguments, grid, and the blocks one after another (PTX ISA, section "Programming Model")."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

import lisa_kernels.testing.ptx.instructions  # noqa: F401  registers all handlers
from lisa_kernels.testing.ptx.arguments import chosen, pack, three
from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.buffers import Buffer, GlobalMemory
from lisa_kernels.testing.ptx.clocks import Ticks
from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.module import ModuleText
from lisa_kernels.testing.ptx.operands import Immediate
from lisa_kernels.testing.ptx.program import Program
from lisa_kernels.testing.ptx.runner import State, run_block
from lisa_kernels.testing.ptx.spinning import count_changes
from lisa_kernels.testing.ptx.values import STORAGE, UNSIGNED

# Instructions after which a block that has not ended lets others run: it may spin on what they do.
_PATIENCE = 20_000
# Some 20 s of one CPU core: a hang ends, and no block of a real kernel comes near it (a matmul tile of depth 8192 runs
# 80,000).
MAX_INSTRUCTIONS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Options:
    """How a launch is carried out.

    Attributes:
        blocks: Indices ``(x, y, z)`` of the blocks to run; None for all.
        block_order: None for ascending order, or the seed of a random one.
        schedule: ``"lockstep"``, or a seed: warps run one after another from one synchronisation to the next, in random
            order. About as many times slower as there are warps.
        check_races: Whether races and reads of unwritten shared memory are looked for.
        buffers: Tensors that are reached through pointers stored in memory only.
        exempt: Names or positions of arguments whose plain reads do not race with atomics: a value that is read once
            and then compared by ``atomicCAS``, or a counter that is looked at while others count.
        outputs: Names or positions of arguments that hold nothing yet: reading an element before it is written is a
            fault, as long as ``check_races`` is on.
        max_instructions: A launch that runs more without any block ending is taken to hang.
    """

    blocks: Collection[tuple[int, int, int]] | None = None
    block_order: int | None = None
    schedule: str | int = "lockstep"
    check_races: bool = True
    buffers: Sequence[Any] = ()
    exempt: Collection[str | int] = ()
    outputs: Collection[str | int] = ()
    max_instructions: int = MAX_INSTRUCTIONS

    def __post_init__(self) -> None:
        if self.schedule != "lockstep" and not isinstance(self.schedule, int):
            raise ValueError(f"emulate: schedule is {self.schedule!r}; it takes 'lockstep' or a seed.")
        for name in ("exempt", "outputs"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"emulate: {name} is {getattr(self, name)!r}; it takes a list of names or positions.")


@dataclasses.dataclass(frozen=True)
class Asked:
    """Bytes that a launch asked of a piece of global memory, each byte of each access once, whatever a cache holds.

    Attributes:
        start: Address of its first byte.
        size: Its bytes; tensors that lie closer together than 128 bytes are one piece.
        loaded: By loads and copies, atomics left out.
        stored: By stores and copies, atomics left out.
    """

    start: int
    size: int
    loaded: int
    stored: int


@dataclasses.dataclass(frozen=True)
class Report:
    """What a launch did.

    Attributes:
        kernel: Name of the kernel.
        blocks: Blocks that ran.
        instructions: Instructions executed, each counted once for all threads that ran it together.
        printed: What the kernel printed, one text for each thread and call.
        traffic: What it asked of each piece of global memory.
    """

    kernel: str
    blocks: int
    instructions: int
    printed: tuple[str, ...]
    traffic: tuple[Asked, ...]


class Launch:
    """One launch; what all its blocks share."""

    def __init__(
        self,
        program: Program,
        grid: Sequence[int],
        block_shape: Sequence[int],
        args: Sequence[Any],
        *,
        shared_bytes: int,
        options: Options,
        names: Sequence[str] = (),
    ) -> None:
        self.program, self.options = program, options
        self.grid, self.block_shape = three(grid, "grid"), three(block_shape, "block")
        self.threads_per_block = math.prod(self.block_shape)
        self._check_threads()
        count = self.threads_per_block
        self.all_lanes = np.arange(count)
        self.everyone = np.ones(count, bool)
        self.warps, self.lane_in_warp = self.all_lanes // 32, self.all_lanes % 32
        self.all_warps = np.arange(-(-count // 32))
        self.agents = len(self.all_warps)
        self.shared_bytes = program.static_shared + shared_bytes
        self.ticks = Ticks()
        self.printed: list[str] = []
        buffers: list[Buffer] = list(program.buffers)
        self.parameters = pack(program, args, names, buffers)
        buffers += [Buffer.of(value, f"buffers[{i}]") for i, value in enumerate(options.buffers)]
        self.global_memory = GlobalMemory(buffers, agents=self.agents, check_races=options.check_races)
        self.global_memory.mark(chosen(options.exempt, names, buffers, "exempt"), "exempt")
        self.global_memory.mark(chosen(options.outputs, names, buffers, "outputs"), "blank")
        self.register_storage = {
            name: STORAGE["pred"] if type_name == "pred" else UNSIGNED[STORAGE[type_name].itemsize]
            for name, type_name in program.registers.items()
        }
        self._constants: dict[tuple[int, np.dtype], np.ndarray] = {}

    def register_type(self, name: str) -> str:
        """Declared type of a register."""
        return self.program.registers[name]

    def constant(self, operand: Immediate, storage: np.dtype) -> np.ndarray:
        """A literal for every lane."""
        key = (id(operand), storage)
        values = self._constants.get(key)
        if values is None:
            values = self._constants[key] = np.full(self.threads_per_block, operand.as_storage(storage)[0])
        return values

    def run(self) -> Report:
        """Run the blocks.

        Raises:
            PtxError: At the first fault.
        """
        indices = self._indices()
        if self.options.block_order is not None:
            np.random.default_rng(self.options.block_order).shuffle(indices)
        waiting: list[Block] = []
        self._instructions = self._since_block_ended = 0
        # Threads may compute with NaN and infinity, as on the device.
        with np.errstate(all="ignore"):
            for ordinal, index in enumerate(indices):
                waiting.append(Block(self, index, ordinal))
                waiting, _ = self._run_round(waiting)
            while waiting:
                waiting, stuck = self._run_round(waiting)
                if stuck or self._since_block_ended > self.options.max_instructions:
                    raise self._hangs(waiting[0], stuck)
        traffic = tuple(
            Asked(region.start, region.end - region.start, region.loaded, region.stored)
            for region in self.global_memory.regions
        )
        return Report(self.program.name, len(indices), self._instructions, tuple(self.printed), traffic)

    def _run_round(self, blocks: list[Block]) -> tuple[list[Block], bool]:
        """Run each block for a while; return those that have not ended, and whether all run in circles for ever."""
        left, changes, stuck = [], sum(map(count_changes, blocks)), bool(blocks)
        for block in blocks:
            state, ran = run_block(block, _PATIENCE)
            self._instructions += ran
            self._since_block_ended = 0 if state is State.ENDED else self._since_block_ended + ran
            stuck &= state is State.SPINNING
            if state is not State.ENDED:
                left.append(block)
        # What one of them changed last the others have not seen.
        return left, stuck and changes == sum(map(count_changes, blocks))

    def _hangs(self, block: Block, stuck: bool) -> PtxError:
        running = np.nonzero(~block.threads.exited)[0]
        detail = f"the launch has not ended after {self._instructions} instructions; these threads still run"
        detail += ", and nothing changes any more" if stuck else "; max_instructions= lets them run longer"
        return PtxError(
            "deadlock", detail,
            instruction=self.program.instructions[block.threads.pc].text,
            source=self.program.instructions[block.threads.pc].source,
            kernel=self.program.name, block=block.index, threads=tuple(running.tolist()),
        )  # fmt: skip

    def _indices(self) -> list[tuple[int, int, int]]:
        every = [(x, y, z) for z in range(self.grid[2]) for y in range(self.grid[1]) for x in range(self.grid[0])]
        if self.options.blocks is None:
            return every
        chosen = {three(index, "blocks", fill=0) for index in self.options.blocks}
        if unknown := chosen.difference(every):
            raise ValueError(f"emulate: blocks names {min(unknown)}; the grid is {self.grid}.")
        return [index for index in every if index in chosen]

    def _check_threads(self) -> None:
        required = self.program.function.required_threads
        if not 1 <= self.threads_per_block <= 1024:
            raise ValueError(f"emulate: a block has {self.threads_per_block} threads; it takes 1 to 1024.")
        if required and required != self.threads_per_block:
            raise ValueError(f"emulate: a block has {self.threads_per_block} threads; the kernel requires {required}.")


class Module:
    """PTX text of Triton, nvcc or your own; ``launch`` runs one of its kernels on CPU tensors."""

    def __init__(self, text: str) -> None:
        self.text = ModuleText(text)

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of the entries."""
        return tuple(name for name, function in self.text.functions.items() if function.is_entry)

    def program(self, name: str) -> Program:
        """Return a kernel ready to run.

        Raises:
            PtxError: Of kind ``unsupported``, for an instruction or modifier that is not modelled.
            ValueError: There is no such kernel.
        """
        if name not in self.kernels:
            raise ValueError(f"Module.launch: name is {name!r}; the module has {', '.join(self.kernels)}.")
        # Not kept between launches: module-level variables start anew each time.
        return Program(self.text, name)

    def launch(
        self,
        name: str,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        *,
        shared_bytes: int = 0,
        names: Sequence[str] = (),
        blocks: Iterable[tuple[int, int, int]] | None = None,
        block_order: int | None = None,
        schedule: str | int = "lockstep",
        check_races: bool = True,
        buffers: Sequence[Any] = (),
        exempt: Collection[str | int] = (),
        outputs: Collection[str | int] = (),
        max_instructions: int = MAX_INSTRUCTIONS,
    ) -> Report:
        """Run a kernel in place on its arguments and return what it did.

        Args:
            name: One of ``kernels``.
            grid: Blocks along x, y, z; later ones may be left out.
            block: Threads along x, y, z.
            args: CPU tensors, numpy arrays, numbers, None (a null pointer) or bytes (a struct), in order.
            shared_bytes: Dynamic shared memory of a block.
            names: Of the arguments, for faults.
            blocks: Blocks to run; None for all.
            block_order: None, or the seed of a random order.
            schedule: ``"lockstep"``, or a seed: see ``Options``.
            check_races: Whether races and reads of unwritten shared memory are looked for.
            buffers: Memory that is reached through stored pointers only.
            exempt: Arguments whose plain reads do not race with atomics: see ``Options``.
            outputs: Arguments that hold nothing before they are written.
            max_instructions: A launch that runs more without any block ending is taken to hang.

        Raises:
            PtxError: At the first fault.
        """
        options = Options(
            None if blocks is None else frozenset(blocks), block_order, schedule, check_races, tuple(buffers),
            exempt, outputs, max_instructions,
        )  # fmt: skip
        program = self.program(name)
        launch = Launch(program, grid, block, args, shared_bytes=shared_bytes, options=options, names=names)
        return launch.run()
