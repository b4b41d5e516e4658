"""CUDA C++ kernels on this machine's CPU: one fiber for each thread, blocks over OS threads."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lisa_kernels.testing.cuda.arguments import pack
from lisa_kernels.testing.cuda.build import build
from lisa_kernels.testing.cuda.faults import HostFault
from lisa_kernels.testing.cuda.guarded import guarded_arguments
from lisa_kernels.testing.cuda.sanitized import kernels_of, run_sanitized

Shape = int | Sequence[int]
# The slowest kernel of the tests takes 2 s.
LIMIT_S = 600


@dataclasses.dataclass(frozen=True)
class HostLaunch:
    """A launch as an executor sees it.

    Attributes:
        kernel: As written before ``<<<``, or as given to ``HostModule.launch``.
        symbol: The kernel's mangled name, which is its entry in PTX; None for internal linkage.
        grid: Blocks in x, y, z.
        block: Threads in x, y, z.
        shared_bytes: Dynamic shared memory.
        arguments: The bytes of each argument.
    """

    kernel: str
    symbol: str | None
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    arguments: tuple[bytes, ...]


class _Launch(ctypes.Structure):
    """``lisa_host::Launch`` of ``csrc/testing/launch.h``."""

    _fields_ = (
        ("kernel", ctypes.c_char_p),
        ("symbol", ctypes.c_char_p),
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared_bytes", ctypes.c_uint64),
        ("stream", ctypes.c_void_p),
        ("parameter_count", ctypes.c_int32),
        ("parameter_bytes", ctypes.POINTER(ctypes.c_uint64)),
        ("arguments", ctypes.POINTER(ctypes.c_void_p)),
        ("function", ctypes.c_void_p),
        ("invoke", ctypes.c_void_p),
    )


_EXECUTOR = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Launch))


class HostModule:
    """The kernels of one ``.cu`` file, compiled for the CPU; made by ``HostModule.build``.

    Attributes:
        kernels: The type codes of each kernel's parameters, by its name.
    """

    def __init__(self, path: pathlib.Path, *, sanitized: bool) -> None:
        self.path = path
        self.sanitized = sanitized
        self._library = None if sanitized else _load(path)
        self._has_executor = False
        listed = kernels_of(path) if sanitized else self._library.lisa_host_kernels().decode()
        self.kernels: dict[str, tuple[str, ...]] = {}
        for line in listed.splitlines():
            name, codes = line.split("\t")
            self.kernels[name] = tuple(codes.split())

    @classmethod
    def build(
        cls,
        source: str | pathlib.Path,
        *,
        sanitize: bool = False,
        include_dirs: Sequence[str | pathlib.Path] = (),
        instantiate: Sequence[str] = (),
        callers: Sequence[str | pathlib.Path] = (),
        options: Sequence[str] = (),
        cache: pathlib.Path | None = None,
    ) -> HostModule:
        """Return the compiled kernels of a ``.cu`` file that nvcc takes as it is.

        Args:
            source: The path of the file, or its text (anything with a line break).
            sanitize: Compile with AddressSanitizer and UndefinedBehaviorSanitizer; each launch runs in a process of
                its own.
            include_dirs: Folders of its includes.
            instantiate: Instantiations of kernel templates to be launched by name, such as ``"lisa::sum_kernel<256>"``.
            callers: C++ files compiled along with it, which call its launchers.
            options: Further options of g++, such as ``-DNAME=1``.
            cache: Where results are kept; None: ``~/.cache/lisa_kernels/cuda``.

        Raises:
            RuntimeError: A tool is missing, or the file uses what is not modelled (``csrc/testing/README.md``).
        """
        path = build(
            source,
            sanitize=sanitize,
            include_dirs=[pathlib.Path(folder).resolve() for folder in include_dirs],
            instantiate=instantiate,
            callers=[pathlib.Path(caller).resolve() for caller in callers],
            options=options,
            cache=cache,
        )
        return cls(path, sanitized=sanitize)

    def launch(
        self,
        kernel: str,
        grid: Shape,
        block: Shape,
        args: Sequence[Any],
        *,
        shared_bytes: int = 0,
        seed: int | None = None,
        threads: int | None = None,
        limit_s: int = LIMIT_S,
    ) -> None:
        """Run a kernel to its end.

        The tensors are copied between inaccessible pages for the launch, so that an access beyond one is a fault that
        names it.  Only ``call`` and launchers work on the caller's memory itself, where such an access may end this
        process; so do kernels that take pointers to pointers.

        Args:
            kernel: Its name as in the source, without namespaces; an instantiation as given to ``build``.
            grid: Blocks in x, or in x, y, z.
            block: Threads of a block, likewise.
            args: CPU tensors or numpy arrays for pointers (None: null), numbers, ``struct_argument`` or ctypes structs.
            shared_bytes: Dynamic shared memory.
            seed: Threads and blocks run in an order drawn from it; None: in order of their indices.
            threads: OS threads that blocks are spread over; None: one for each CPU.
            limit_s: A launch that takes longer is a fault.

        Raises:
            HostFault: The kernel did something wrong, or the launch is not valid; the tensors are then as they were.
            ValueError, TypeError: The arguments are not what the kernel takes.
        """
        if kernel not in self.kernels:
            raise ValueError(f"launch: there is no kernel {kernel}; it takes one of {', '.join(sorted(self.kernels))}.")
        if self.kernels[kernel] == ("ambiguous",):
            raise ValueError(f"launch: several namespaces have a kernel {kernel}; name each by build(instantiate=...).")
        packed, memories = pack(kernel, self.kernels[kernel], args)
        shape = (*_three(grid), *_three(block))
        if self.sanitized:
            run_sanitized(
                self.path,
                kernel,
                packed,
                memories=memories,
                shape=shape,
                shared_bytes=shared_bytes,
                order=(_seed(seed), threads or 0),
                limit_s=limit_s,
            )
            return
        # What an executor, or an address among a tensor's values, points to must be the caller's memory itself.
        as_it_is = self._has_executor or any(code.startswith("pp") for code in self.kernels[kernel])
        with (
            self.ordered(seed=seed, threads=threads, limit_s=limit_s),
            guarded_arguments(self._library, packed, () if as_it_is else memories) as arguments,
        ):
            values = [ctypes.create_string_buffer(argument, len(argument)) for argument in arguments]
            addresses = (ctypes.c_void_p * (len(values) + 1))(*map(ctypes.addressof, values), None)
            self._library.lisa_host_launch(kernel.encode(), (ctypes.c_uint32 * 6)(*shape), shared_bytes, addresses)

    def call(
        self,
        function: str,
        *args: Any,
        seed: int | None = None,
        threads: int | None = None,
        returns: Any = ctypes.c_int,
    ) -> Any:
        """Return what an ``extern "C"`` host function of the source or of a caller returns.

        Args:
            function: Its name.
            args: What ctypes takes: numbers in ctypes types, pointers, structs.
            seed: As in ``launch``, for every launch that the function makes.
            threads: As in ``launch``.
            returns: The ctypes type of the result, None for ``void``.

        Raises:
            HostFault: A launch went wrong; the function itself has returned.
            ValueError: The library has no such function, or it was built with sanitizers.
        """
        if self._library is None:
            raise ValueError("call: a module built with sanitize=True only launches kernels; build it without.")
        try:
            host_function = getattr(self._library, function)
        except AttributeError:
            raise ValueError(f'call: {self.path} has no extern "C" function {function}.') from None
        host_function.restype = returns
        with self.ordered(seed=seed, threads=threads):
            return host_function(*args)

    @contextlib.contextmanager
    def run_through(self, executor: Callable[[HostLaunch], None]) -> Iterator[None]:
        """Hand every launch of this module, by ``launch`` or by a launcher's ``<<<>>>``, to ``executor`` instead."""
        if self._library is None:
            raise ValueError(
                "run_through: a module built with sanitize=True runs in another process; build it without."
            )
        errors: list[BaseException] = []

        def receive(pointer: Any) -> None:
            try:
                executor(_as_host_launch(pointer.contents))
            except BaseException as error:  # a C caller cannot pass it on
                errors.append(error)

        callback = _EXECUTOR(receive)
        self._library.lisa_host_execute_with(callback)
        self._has_executor = True
        try:
            yield
        finally:
            self._library.lisa_host_execute_with(_EXECUTOR())
            self._has_executor = False
        if errors:
            raise errors[0]

    @contextlib.contextmanager
    def ordered(self, *, seed: int | None = None, threads: int | None = None, limit_s: int = LIMIT_S) -> Iterator[None]:
        """Order every launch inside the block, whoever calls the launcher (a torch op of the library, say).

        Args:
            seed: As in ``launch``.
            threads: As in ``launch``.
            limit_s: As in ``launch``, for each.

        Raises:
            HostFault: A launch in the block went wrong; raised at its end.
            ValueError: The module was built with sanitizers.
        """
        if self._library is None:
            raise ValueError("ordered: a module built with sanitize=True runs in another process; build it without.")
        self._library.lisa_host_clear()
        self._library.lisa_host_set(_seed(seed), threads or 0, limit_s)
        try:
            yield
        finally:
            self._library.lisa_host_set(0, 0, LIMIT_S)
        if kind := self._library.lisa_host_fault_kind():
            raise HostFault(kind.decode(), self._library.lisa_host_fault_message().decode())


def _load(path: pathlib.Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name in ("lisa_host_kernels", "lisa_host_fault_kind", "lisa_host_fault_message"):
        getattr(library, name).restype = ctypes.c_char_p
    library.lisa_host_set.argtypes = (ctypes.c_uint64, ctypes.c_int32, ctypes.c_int32)
    library.lisa_host_launch.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p)
    library.lisa_host_execute_with.argtypes = (_EXECUTOR,)
    library.lisa_host_guard.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint64)
    library.lisa_host_guard.restype = ctypes.c_uint64
    return library


def _as_host_launch(launch: _Launch) -> HostLaunch:
    arguments = [
        ctypes.string_at(launch.arguments[i], launch.parameter_bytes[i]) for i in range(launch.parameter_count)
    ]
    return HostLaunch(
        launch.kernel.decode(),
        launch.symbol.decode() if launch.symbol else None,
        tuple(launch.grid),
        tuple(launch.block),
        launch.shared_bytes,
        tuple(arguments),
    )


def _seed(seed: int | None) -> int:
    if seed is None:
        return 0
    if seed < 0:
        raise ValueError(f"launch: seed is {seed}; it takes 0 or more, or None for threads in order.")
    return seed + 1


def _three(shape: Shape) -> tuple[int, int, int]:
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not 1 <= len(sizes) <= 3:
        raise ValueError(f"launch: a shape has {len(sizes)} sizes; it takes 1 to 3.")
    return (*sizes, *(1,) * (3 - len(sizes)))
