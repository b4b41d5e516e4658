"""A kernel and the device functions it calls as one list of instructions, with a place for every variable."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

import numpy as np

from lisa_kernels.testing.ptx.buffers import Buffer
from lisa_kernels.testing.ptx.declarations import Variable
from lisa_kernels.testing.ptx.faults import PtxError
from lisa_kernels.testing.ptx.memory import THREAD_PARAMETERS
from lisa_kernels.testing.ptx.module import Function, Instruction, ModuleText
from lisa_kernels.testing.ptx.operands import Immediate, OperandParser, Register, Symbol, split_list
from lisa_kernels.testing.ptx.syntax import Handler, find_handler
from lisa_kernels.testing.ptx.values import STORAGE, UNSIGNED

# Functions of the CUDA runtime that are carried out here (instructions/calls.py).
SYSTEM_FUNCTIONS = frozenset(("vprintf", "__assertfail"))


class Program:
    """What a launch of one kernel runs.

    Attributes:
        instructions: Of the kernel, then of the functions it calls.
        handlers: One for each instruction.
        registers: Type of every register.
        symbols: State space and address of every variable.
        starts: Index of the first instruction of each function.
        buffers: Module-level variables, as global memory.
    """

    def __init__(self, module: ModuleText, kernel: str) -> None:
        self.name = kernel
        self.function = module.functions[kernel]
        self.instructions: list[Instruction] = []
        self.handlers: list[Handler] = []
        self.registers: dict[str, str] = {}
        self.symbols: dict[str, tuple[str, int]] = {}
        self.starts: dict[str, int] = {}
        self.functions: dict[str, Function] = {}
        self.buffers: list[Buffer] = []
        self.local_size = self.thread_parameter_size = 0
        self._arrays: list[np.ndarray] = []
        self._dynamic: list[Variable] = []
        self._static_shared = 0
        # Functions between the kernel and the one being added.
        self._open: list[str] = []
        self._lay_out_parameters()
        self._lay_out_module(module)
        self._add(module, self.function)
        self._place_dynamic_shared()
        self.wgmma_registers = self._registers_of_wgmma()

    @property
    def static_shared(self) -> int:
        """Bytes of shared memory with a size known at compile time."""
        return self._static_shared

    def _registers_of_wgmma(self) -> frozenset[str]:
        """Registers that a wgmma uses, and copies of these."""
        found = set().union(*(i.touched for i in self.instructions if i.mnemonic.startswith("wgmma.mma_async")))
        moves = [i for i in self.instructions if i.opcode == "mov"] if found else []
        while copies := [i for i in moves if not found.isdisjoint(i.touched) and not found.issuperset(i.touched)]:
            found.update(*(i.touched for i in copies))
        return frozenset(found)

    def _add(self, module: ModuleText, function: Function) -> None:
        start = self.starts[function.name] = len(self.instructions)
        self.functions[function.name] = function
        self.registers |= function.register_types
        for variable in function.variables:
            self._place(variable)
        if not function.is_entry:
            for variable in (*function.parameters, *function.results):
                self._place_thread_parameter(variable)
        self._open.append(function.name)
        called = []
        for instruction in function.instructions:
            instruction = dataclasses.replace(instruction)
            if instruction.target >= 0:
                instruction.target += start
            self.instructions.append(instruction)
            self.handlers.append(_handler(instruction, self.name))
            if instruction.opcode == "call":
                called.append(instruction)
        # Running past the end of a body is a return.
        self.instructions.append(Instruction("ret", (), (), None, "ret", ""))
        self.handlers.append(find_handler("ret"))
        for instruction in called:
            self._link(module, instruction)
        self._open.pop()

    def _link(self, module: ModuleText, instruction: Instruction) -> None:
        name = callee_of(instruction)
        if name in SYSTEM_FUNCTIONS:
            return
        if name not in module.functions:
            raise PtxError(
                "unsupported", f"function {name} has no body here", instruction.text, instruction.source, self.name
            )
        if name in self._open:
            raise PtxError("unsupported", f"{name} calls itself", instruction.text, instruction.source, self.name)
        if name not in self.starts:
            self._add(module, module.functions[name])
        instruction.target = self.starts[name]

    def _lay_out_parameters(self) -> None:
        place = 0
        for variable in self.function.parameters:
            place = _align(place, variable.alignment)
            self.symbols[variable.name] = ("param", place)
            place += variable.size
        self.parameter_size = place

    def _lay_out_module(self, module: ModuleText) -> None:
        waiting = []
        for variable in module.variables.values():
            if variable.space == "shared":
                self._place(variable)
            elif variable.extern:
                raise PtxError("unsupported", f"{variable.name} is defined in another module", kernel=self.name)
            else:
                array = np.zeros(variable.size + variable.alignment, np.uint8)
                skip = -array.ctypes.data % variable.alignment
                array = array[skip : skip + variable.size]
                self._arrays.append(array)
                self.symbols[variable.name] = (variable.space, array.ctypes.data)
                self.buffers.append(
                    Buffer(f"variable {variable.name}", array.ctypes.data, variable.size, variable.space != "const")
                )
                waiting.append((variable, array))
        # Initialisers may name variables that come later.
        for variable, array in waiting:
            if variable.initial:
                values = self._initial_values(variable, module.functions)
                array[: values.nbytes] = values.view(np.uint8)

    def _initial_values(self, variable: Variable, functions: Collection[str]) -> np.ndarray:
        storage = STORAGE[variable.type]
        parser = OperandParser(lambda text: None, lambda text: text)
        values = []
        for item in split_list(re.sub(r"[{}]", "", variable.initial)):
            if match := re.match(r"generic\((.*)\)(.*)$", item):
                item = match[1] + match[2]
            operand = parser.parse(item)
            if isinstance(operand, Immediate):
                values.append(operand.as_storage(storage).view(UNSIGNED[storage.itemsize])[0])
            elif isinstance(operand, Symbol) and operand.name in self.symbols:
                values.append(self.symbols[operand.name][1] + operand.offset)
            elif isinstance(operand, Symbol) and operand.name in functions:
                # Calls through a register are refused: nothing goes there.
                values.append((1 << 8 * storage.itemsize) - 1)
            else:
                raise PtxError("unsupported", f"initialiser {item} of {variable.name}", kernel=self.name)
        return np.array(values, UNSIGNED[storage.itemsize])

    def _place(self, variable: Variable) -> None:
        if variable.space == "shared" and (variable.extern or not variable.size):
            self._dynamic.append(variable)
        elif variable.space == "shared":
            place = _align(self._static_shared, variable.alignment)
            self.symbols[variable.name] = ("shared", place)
            self._static_shared = place + variable.size
        elif variable.space == "local":
            place = _align(self.local_size, variable.alignment)
            self.symbols[variable.name] = ("local", place)
            self.local_size = place + variable.size
        elif variable.space == "param":
            self._place_thread_parameter(variable)
        else:
            raise PtxError("unsupported", f".{variable.space} variable {variable.name} in a function", kernel=self.name)

    def _place_thread_parameter(self, variable: Variable) -> None:
        place = _align(self.thread_parameter_size, max(variable.alignment, 8))
        self.symbols[variable.name] = ("param", THREAD_PARAMETERS + place)
        self.thread_parameter_size = place + variable.size

    def _place_dynamic_shared(self) -> None:
        # All share one address, behind the static arrays.
        alignment = max((variable.alignment for variable in self._dynamic), default=1)
        if self._dynamic:
            self._static_shared = _align(self._static_shared, alignment)
        for variable in self._dynamic:
            self.symbols[variable.name] = ("shared", self._static_shared)


def callee_of(instruction: Instruction) -> str:
    """Name of the function that a call names.

    Raises:
        PtxError: The call goes through a register.
    """
    names = [operand.name for operand in instruction.operands if isinstance(operand, Symbol)]
    if len(names) == 1 and not any(isinstance(operand, Register) for operand in instruction.operands):
        return names[0]
    raise PtxError("unsupported", "calls through a register are not modelled", instruction.text, instruction.source)


def _handler(instruction: Instruction, kernel: str) -> Handler:
    try:
        return find_handler(instruction.mnemonic)
    except PtxError as fault:
        detail = fault.detail
    raise PtxError("unsupported", detail, instruction.text, instruction.source, kernel)


def _align(place: int, alignment: int) -> int:
    return -(-place // alignment) * alignment
