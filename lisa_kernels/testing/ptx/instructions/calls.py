"""Calls (PTX ISA, section "Control Flow Instructions: call, ret"; CUDA's printf and assert as system calls).

Arguments and results travel through .param variables, which every thread has its own copies of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from lisa_kernels.testing.ptx.block import Block
from lisa_kernels.testing.ptx.declarations import Variable
from lisa_kernels.testing.ptx.memory import THREAD_PARAMETERS
from lisa_kernels.testing.ptx.module import Instruction
from lisa_kernels.testing.ptx.operands import Arguments, Operand, Symbol
from lisa_kernels.testing.ptx.program import SYSTEM_FUNCTIONS, callee_of
from lisa_kernels.testing.ptx.syntax import instruction

_SPECIFIER = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?(hh|h|ll|l|z|j|t)?([diouxXeEfFgGaAcsp%])")


@instruction("call[.uni]")
def call(block: Block, inst: Instruction) -> None:
    name = callee_of(inst)
    results, arguments = _lists(inst)
    if name in SYSTEM_FUNCTIONS:
        _SYSTEM[name](block, results, arguments)
        return
    function = block.program.functions[name]
    _check_counts(block, inst, results, arguments)
    for formal, actual in zip(function.parameters, arguments, strict=True):
        _copy(block, _place(block, formal), actual, formal.size, into_callee=True)
    block.threads.call(inst.target)


@instruction("ret[.uni]")
def give_back(block: Block, inst: Instruction) -> None:
    for lanes, return_to in block.threads.returns(block.lanes):
        if return_to is None:
            block.threads.exit(_mask(block, lanes))
            continue
        block.set_active(_mask(block, lanes))
        caller = block.program.instructions[return_to - 1]
        function = block.program.functions[callee_of(caller)]
        results, _ = _lists(caller)
        for formal, actual in zip(function.results, results, strict=True):
            _copy(block, _place(block, formal), actual, formal.size, into_callee=False)
        block.threads.branch(return_to)


def _mask(block: Block, lanes: np.ndarray) -> np.ndarray:
    if len(lanes) == block.count:
        return block.everyone
    mask = np.zeros(block.count, bool)
    mask[lanes] = True
    return mask


def _lists(inst: Instruction) -> tuple[tuple[Operand, ...], tuple[Operand, ...]]:
    """Results and arguments of a call."""
    name = next(i for i, operand in enumerate(inst.operands) if isinstance(operand, Symbol))
    before = inst.operands[:name]
    after = [operand for operand in inst.operands[name + 1 :] if isinstance(operand, Arguments)]
    return before[0].items if before else (), after[0].items if after else ()


def _check_counts(
    block: Block, inst: Instruction, results: tuple[Operand, ...], arguments: tuple[Operand, ...]
) -> None:
    function = block.program.functions[callee_of(inst)]
    if (len(results), len(arguments)) != (len(function.results), len(function.parameters)):
        raise block.fail("unsupported", f"call of {function.name} with other numbers of arguments or results")


def _place(block: Block, formal: Variable) -> int:
    return block.program.symbols[formal.name][1] - THREAD_PARAMETERS


def _copy(block: Block, place: int, actual: Operand, size: int, *, into_callee: bool) -> None:
    memory = block.memory.thread_parameters
    if not isinstance(actual, Symbol):
        raise block.fail("unsupported", "arguments of a call that are not .param variables are not modelled")
    other = block.address_of(actual) - THREAD_PARAMETERS
    target, source = (place, other) if into_callee else (other, place)
    memory[block.lanes, target : target + size] = memory[block.lanes, source : source + size]


def _argument(block: Block, actual: Operand, lane: int) -> int:
    place = block.address_of(actual) - THREAD_PARAMETERS
    return int(block.memory.thread_parameters[lane, place : place + 8].view(np.uint64)[0])


def _text(block: Block, address: int, lane: int) -> str:
    """A zero-terminated string in any memory."""
    return bytes(_bytes_from(block, address, lane)).decode(errors="replace")


def _bytes_from(block: Block, address: int, lane: int) -> Iterator[int]:
    lanes = np.array([lane])
    while byte := int(block.memory.load("generic", np.array([address]), 1, lanes)[0, 0]):
        yield byte
        address += 1


def _assert_fail(block: Block, results: tuple[Operand, ...], arguments: tuple[Operand, ...]) -> None:
    lane = int(block.lanes[0])
    message, file = (_text(block, _argument(block, argument, lane), lane) for argument in arguments[:2])
    place = block.address_of(arguments[2]) - THREAD_PARAMETERS
    line = int(block.memory.thread_parameters[lane, place : place + 4].view(np.uint32)[0])
    raise block.fail("assert", f"{message} ({file}:{line})", block.lanes)


def _print(block: Block, results: tuple[Operand, ...], arguments: tuple[Operand, ...]) -> None:
    for lane in block.lanes.tolist():
        template = _text(block, _argument(block, arguments[0], lane), lane)
        values = _argument(block, arguments[1], lane)
        block.launch.printed.append(_format(block, template, values, lane))
    if results:
        place = block.address_of(results[0]) - THREAD_PARAMETERS
        # printf returns how many arguments it took; nothing reads it.
        block.memory.thread_parameters[block.lanes, place : place + 4] = 0


def _format(block: Block, template: str, address: int, lane: int) -> str:
    """Fill a C format from the argument buffer: each value aligned to its size, floats as doubles."""
    place = address

    def value(match: re.Match[str]) -> str:
        nonlocal place
        length, conversion = match[1] or "", match[2]
        if conversion == "%":
            return "%"
        wide = conversion in "eEfFgGaAsp" or length in ("l", "ll", "z", "j", "t")
        size = 8 if wide else 4
        place = -(-place // size) * size
        data = block.memory.load("generic", np.array([place]), size, np.array([lane]))[0]
        place += size
        specifier = match[0].replace(length, "", 1) if length else match[0]
        if conversion == "s":
            return specifier % _text(block, int(data.view(np.uint64)[0]), lane)
        if conversion == "p":
            return f"{int(data.view(np.uint64)[0]):#x}"
        if conversion in "eEfFgGaA":
            return specifier % float(data.view(np.float64)[0])
        if conversion == "c":
            return chr(int(data.view(np.uint32)[0]) & 0xFF)
        kind = ("i" if conversion in "di" else "u") + str(size)
        return specifier.replace("u", "d") % int(data.view(kind)[0])

    return _SPECIFIER.sub(value, template)


_SYSTEM = {"vprintf": _print, "__assertfail": _assert_fail}
