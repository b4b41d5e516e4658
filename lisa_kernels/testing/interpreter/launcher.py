"""One launch under the interpreter: its arguments told to the builder, its errors told plainly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as stock
from triton.runtime.interpreter import InterpreterError, TensorHandle

from lisa_kernels.testing.interpreter.errors import DeviceAssertError, NotInterpretedError, refuse
from lisa_kernels.testing.interpreter.libdevice import interpretations, is_stub
from lisa_kernels.testing.interpreter.location import failed_line


class HonestGridExecutor(stock.GridExecutor):
    """Runs the programs of a launch on the active ``HonestBuilder``."""

    # Errors that a kernel's caller should see as they are, not as the repr of a repr.
    told_plainly: tuple[type[Exception], ...] = (NotInterpretedError, DeviceAssertError)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        args = tuple(self._as_compiled(name, arg) for name, arg in zip(self.arg_names, args, strict=False))
        kwargs = {name: self._as_compiled(name, arg) for name, arg in kwargs.items()}
        named = dict(zip(self.arg_names, args, strict=False)) | {n: a for n, a in kwargs.items() if n in self.arg_names}
        builder = stock.interpreter_builder
        builder.begin_launch(self.fn.__name__, named)
        try:
            # Lanes that are masked off later may overflow on the way there.
            with np.errstate(all="ignore"), _imported_functions(self.fn):
                super().__call__(*args, **kwargs)
        except InterpreterError as error:
            if (cause := _cause(error, self.told_plainly)) is not None:
                raise cause from None
            _refuse_cast(_cause(error, (AssertionError,)))
            raise
        finally:
            builder.end_launch()

    def _as_compiled(self, name: str, argument: Any) -> Any:
        """A float argument is an fp32 scalar in compiled code; the stock executor leaves a Python float of 53 bits."""
        if type(argument) is not float or name in self.constexprs:
            return argument
        return tl.tensor(TensorHandle(np.array([argument], dtype=np.float32), tl.float32), tl.float32)


def _refuse_cast(error: Exception | None) -> None:
    """Say which cast Triton lacks, for compiled code too; its own message is the tensor's content."""
    text, _, kind = str(error).rpartition(" to ")
    if text.startswith("cannot cast "):
        dtype = kind.strip("<>").rpartition(" ")[2]
        where = failed_line(error.__traceback__)
        refuse(f"the cast to {dtype} in {where}", "Triton compiles none either: cast to float32 first, or write 0.0.")


def _cause(error: BaseException, kinds: tuple[type[Exception], ...]) -> Exception | None:
    while error is not None:
        if isinstance(error, kinds):
            return error
        error = error.__cause__
    return None


@contextlib.contextmanager
def _imported_functions(kernel: FunctionType) -> Iterator[None]:
    """Interpret names that a kernel's module imported from libdevice itself: those are the stubs, which return None."""
    changed: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for names in _namespaces(kernel.__globals__):
            for name, value in list(names.items()):
                if is_stub(value):
                    changed.append((names, name, value))
                    names[name] = interpretations()[value.__name__]
        yield
    finally:
        for names, name, value in changed:
            names[name] = value


def _namespaces(first: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The globals of a kernel and of the device functions that it can reach."""
    seen, waiting = set(), [first]
    while waiting:
        names = waiting.pop()
        if id(names) in seen:
            continue
        seen.add(id(names))
        yield names
        waiting += [
            value.fn.__globals__ for value in list(names.values()) if isinstance(value, stock.InterpretedFunction)
        ]
