"""The honest builder, with every access to memory judged before it happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import TensorHandle

from lisa_kernels.testing.interpreter.builder import HonestBuilder
from lisa_kernels.testing.interpreter.formats import poison
from lisa_kernels.testing.sanitizer.checks import ATOMIC, LOAD, STORE, Access, Checker


class SanitizerBuilder(HonestBuilder):
    """Lets only the lanes inside the launch's tensors go ahead; loads outside of them give NaN.

    Args:
        checker: Judges accesses.
        on_launch: Told the name and the arguments of each launch before its first program.
    """

    def __init__(
        self,
        checker: Checker,
        on_launch: Callable[[str, Mapping[str, Any] | None], None],
        *,
        program_order: int | None = None,
    ) -> None:
        super().__init__(program_order=program_order)
        self._checker = checker
        self._on_launch = on_launch
        self._atomic = False

    def begin_launch(self, kernel: str, arguments: Mapping[str, Any]) -> None:
        super().begin_launch(kernel, arguments)
        self._on_launch(kernel, arguments)
        self._checker.begin_launch(kernel)

    def end_launch(self) -> None:
        self._checker.end_program()
        self._on_launch("", None)

    def set_grid_dim(self, nx: int, ny: int, nz: int) -> None:
        super().set_grid_dim(nx, ny, nz)
        self._checker.begin_grid(self.grid_dim)

    def set_grid_idx(self, x: int, y: int, z: int) -> None:
        super().set_grid_idx(x, y, z)
        self._checker.begin_program(self.grid_idx)

    def create_masked_load(
        self, ptrs: TensorHandle, mask: TensorHandle, other: TensorHandle | None, *options: Any, **named: Any
    ) -> TensorHandle:
        inside = self._judge(ATOMIC if self._atomic else LOAD, ptrs, mask)
        result = super().create_masked_load(ptrs, inside, other, *options, **named)
        if inside is not mask:
            outside = mask.data & ~inside.data
            result.data = np.where(outside, poison(result.dtype), result.data)
        return result

    def create_masked_store(self, ptrs: TensorHandle, value: TensorHandle, mask: TensorHandle, *options: Any) -> None:
        inside = self._judge(ATOMIC if self._atomic else STORE, ptrs, mask)
        return super().create_masked_store(ptrs, value, inside, *options)

    def create_atomic_rmw(
        self, rmw_op: Any, ptr: TensorHandle, val: TensorHandle, mask: TensorHandle, *order: Any
    ) -> TensorHandle:
        return super().create_atomic_rmw(rmw_op, ptr, val, self._judge(ATOMIC, ptr, mask), *order)

    def create_atomic_cas(self, ptr: TensorHandle, cmp: TensorHandle, val: TensorHandle, *order: Any) -> TensorHandle:
        mask = TensorHandle(np.ones(ptr.data.shape, dtype=bool), tl.int1)
        if self._judge(ATOMIC, ptr, mask) is not mask:
            return TensorHandle(cmp.data.copy(), cmp.dtype)
        return super().create_atomic_cas(ptr, cmp, val, *order)

    def create_atomic_load(self, *args: Any) -> TensorHandle:
        return self._atomically(super().create_atomic_load, *args)

    def create_atomic_store(self, *args: Any) -> None:
        return self._atomically(super().create_atomic_store, *args)

    def create_assert(self, condition: TensorHandle, message: str) -> None:
        if not condition.data.all():
            self._checker.report_assertion(message, condition.data == 0)

    def _atomically(self, access: Callable, *args: Any) -> Any:
        self._atomic = True
        try:
            return access(*args)
        finally:
            self._atomic = False

    def _judge(self, kind: str, ptrs: TensorHandle, mask: TensorHandle) -> TensorHandle:
        """Return the mask itself when every lane that is on may go ahead, else a narrower one."""
        size = max(1, ptrs.get_element_ty().primitive_bitwidth // 8)
        lanes = np.broadcast_to(mask.data, ptrs.data.shape)
        inside = self._checker.check(Access(kind, ptrs.data, lanes, size))
        return mask if inside is lanes else TensorHandle(inside, tl.int1)
