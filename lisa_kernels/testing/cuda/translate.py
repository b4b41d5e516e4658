"""CUDA C++ into C++ for the headers of ``csrc/testing``.

Four things in a ``.cu`` file are not C++ and no macro can make them so: ``kernel<<<...>>>(...)``, variables that are
``__shared__``, includes of CUDA's own headers, and kernels that Python wants to call by name.  All else stays, line for
line; messages of the compiler name the lines of the ``.cu`` file.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Sequence

from lisa_kernels.testing.cuda.source_text import blanked, closing, find_include, includes, inside_function

# Everything in them is in cuda_on_host.h.
_PROVIDED = {
    "cuda_runtime.h", "cuda_runtime_api.h", "device_launch_parameters.h", "cuda_pipeline_primitives.h", "cassert",
    "assert.h",
}  # fmt: skip
_REFUSED = {
    r"mma\.h|crt/mma\.h": "tensor-core instructions (wmma, mma)",
    r"cooperative_groups(\.h|/.*)": "cooperative groups",
    r"cub/.*": "CUB",
    r"thrust/.*": "Thrust",
    r"cute/.*|cutlass/.*": "CUTLASS",
    r"cuda_pipeline\.h|cuda/.*": "libcu++ (cuda::pipeline, cuda::barrier, cuda::ptx)",
    r"cuda_awbarrier.*": "asynchronous barriers",
    r"texture_.*|surface_.*": "textures and surfaces",
    r"cudaTypedefs\.h|cuda\.h": "the driver interface, tensor maps of TMA among it,",
}
_SHARED = re.compile(r"(?:\bstatic\s+)?(\bextern\s+)?(?:\bstatic\s+)?(\bvolatile\s+)?\b__shared__\b")
_ALIGNMENT = re.compile(r"\b(?:__align__|alignas)\s*\(")
_KERNEL = re.compile(r"\b__global__\b")
_BEFORE_KERNEL_NAME = re.compile(
    r"\s*(?:(?:void|static|inline|__noinline__|__forceinline__)\b|(__launch_bounds__)\s*\()"
)
_LAUNCH_END = re.compile(r">>>(?=\s*\()")
_BODY = re.compile(r"\s*\{")
_NAME = re.compile(r"\s*([A-Za-z_]\w*)\s*\(")


@dataclasses.dataclass(frozen=True)
class _Edit:
    start: int
    end: int
    text: str


def translate(text: str) -> str:
    """Return the C++ that ``cuda_on_host.h`` runs; as many lines as ``text``.

    Args:
        text: The content of a ``.cu`` or ``.cuh`` file, its includes resolved by ``translate_tree``.

    Raises:
        ValueError: Brackets do not match.
    """
    code = blanked(text)
    edits = [*_words(code), *_includes(text), *_shared(text, code), *_kernels(code)]
    text = _apply(text, edits)
    # Launches last, on the new text: their arguments may hold what was edited above.
    return _apply(text, _launches(text, blanked(text)))


def translate_tree(
    source: pathlib.Path, include_dirs: Sequence[pathlib.Path], shown: str | None = None
) -> dict[str, str]:
    """Return the translated text of a file and of all files of the project that it includes.

    Args:
        source: A ``.cu`` file.
        include_dirs: Where its includes are looked for, after the including file's own folder.  What is found in none
            of them is left to the compiler.
        shown: What messages call ``source``; None: its path.

    Returns:
        Text by file name; the first is ``source``.  Includes are rewritten to these names.
    """
    names: dict[pathlib.Path, str] = {}
    texts: dict[str, str] = {}

    def visit(path: pathlib.Path) -> str:
        if path in names:
            return names[path]
        names[path] = name = f"{len(names)}_{path.name}"
        texts[name] = ""  # keeps the order of discovery
        text = path.read_text()
        edits = []
        for start, end, included in includes(text):
            if found := find_include(included, [path.parent, *include_dirs]):
                edits.append(_Edit(start, end, f'#include "{visit(found)}"'))
        called = shown if shown and name.startswith("0_") else path
        texts[name] = f'#line 1 "{called}"\n' + translate(_apply(text, edits))
        return name

    visit(source.resolve())
    return texts


def _apply(text: str, edits: list[_Edit]) -> str:
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def _as_many_lines(new: str, old: str) -> str:
    return new + "\n" * (old.count("\n") - new.count("\n"))


def _words(code: str) -> list[_Edit]:
    """Inline PTX, and choices by architecture that would leave device code out without a word."""
    edits = [_Edit(m.start(), m.end(), "LISA_HOST_REFUSE_ASM") for m in re.finditer(r"\b(?:asm|__asm__|__asm)\b", code)]
    for match in re.finditer(r"^[ \t]*#[ \t]*(?:el)?if[^\n]*\b__CUDA_ARCH__\b[^\n]*", code, re.MULTILINE):
        if "LISA_ON_HOST" not in match[0]:
            message = "__CUDA_ARCH__ is not defined on the host, which leaves this out: add `|| defined(LISA_ON_HOST)`"
            edits.append(_Edit(match.start(), match.end(), f"#error {message}"))
    return edits


def _includes(text: str) -> list[_Edit]:
    edits = []
    for start, end, name in includes(text):
        if name in _PROVIDED:
            edits.append(_Edit(start, end, ""))
        for pattern, what in _REFUSED.items():
            if re.fullmatch(pattern, name):
                edits.append(_Edit(start, end, f"#error <{name}>: {what} is not modelled on the host"))
    return edits


def _shared(text: str, code: str) -> list[_Edit]:
    edits = []
    for match in _SHARED.finditer(code):
        end = code.find(";", match.end())
        declaration = text[match.end() : end]
        if not inside_function(code, match.start()):
            new = None
        elif match[1]:
            new = _dynamic_shared(declaration)
        else:
            new = _static_shared(declaration, code[match.end() : end], volatile=bool(match[2]))
        if new is None:
            edits.append(_Edit(match.start(), match.end(), "LISA_HOST_REFUSE_SHARED"))
        else:
            edits.append(_Edit(match.start(), end, _as_many_lines(new, text[match.start() : end])))
    return edits


def _dynamic_shared(declaration: str) -> str | None:
    """``extern __shared__ T name[];``: a pointer to the launch's dynamic shared memory."""
    declaration, _ = _without_alignment(declaration)
    match = re.fullmatch(r"\s*(.+?)\s*\b(\w+)\s*\[\s*\]\s*", declaration, re.DOTALL)
    if match is None:
        return None
    return f"{match[1]}* {match[2]} = ::lisa_host::dynamic_shared<{match[1]}>()"


def _static_shared(declaration: str, code: str, *, volatile: bool) -> str | None:
    """``__shared__ T a[2], b;``: for each name a reference into the block's shared memory."""
    if "=" in code or "{" in code:
        return None
    declaration, alignment = _without_alignment(declaration)
    first, *others = _split_at_commas(declaration)
    match = re.fullmatch(r"\s*(.+?)\s*\b(\w+)\s*((?:\[.*\])?)\s*", first, re.DOTALL)
    if match is None:
        return None
    element = ("volatile " if volatile else "") + " ".join(match[1].split())
    statements = []
    for name, extents in [(match[2], match[3]), *_names(others)]:
        kind, key = f"lisa_host_type_of_{name}", f"lisa_host_key_of_{name}"
        # The address of `key` tells this declaration, and this instantiation of a template, from all others.
        statements += [
            f"typedef {element} {kind}{extents}",
            f"static char {key}",
            f'{kind}& {name} = ::lisa_host::shared_variable<{kind}>(&{key}, "{name}", {alignment})',
        ]
    return "; ".join(statements)


def _names(declarators: list[str]) -> list[tuple[str, str]]:
    found = [re.fullmatch(r"\s*(\w+)\s*((?:\[.*\])?)\s*", text, re.DOTALL) for text in declarators]
    return [(match[1], match[2]) for match in found if match]


def _without_alignment(declaration: str) -> tuple[str, str]:
    match = _ALIGNMENT.search(declaration)
    if match is None:
        return declaration, "1"
    end = closing(declaration, match.end() - 1)
    return declaration[: match.start()] + declaration[end + 1 :], declaration[match.end() : end]


def _split_at_commas(text: str) -> list[str]:
    """Split outside of all brackets, those of templates included."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([<") - (letter in ")]>")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _kernels(code: str) -> list[_Edit]:
    """In each kernel a check of its launch bounds; behind it, unless it is a template, what makes it known by name."""
    edits = []
    for match in _KERNEL.finditer(code):
        position, bounds = match.end(), None
        while before := _BEFORE_KERNEL_NAME.match(code, position):
            position = before.end()
            if before[1]:
                position = closing(code, before.end() - 1) + 1
                bounds = _split_at_commas(code[before.end() : position - 1])[0].strip()
        if (name := _NAME.match(code, position)) is None:
            continue
        body = _BODY.match(code, closing(code, name.end() - 1) + 1)
        if body is None:
            continue
        if bounds:
            edits.append(_Edit(body.end(), body.end(), f" ::lisa_host::check_launch_bounds({bounds});"))
        beginning = max(code.rfind(mark, 0, match.start()) for mark in ";{}")
        if not re.search(r"\btemplate\b", code[beginning + 1 : match.start()]):
            end = closing(code, body.end() - 1) + 1
            edits.append(_Edit(end, end, f" LISA_HOST_EXPORT({name[1]})"))
    return edits


def _launches(text: str, code: str) -> list[_Edit]:
    edits = []
    for match in re.finditer("<<<", code):
        start = _expression_before(code, match.start())
        end = _LAUNCH_END.search(code, match.end())
        if start is None or end is None:
            continue
        kernel = text[start : match.start()].strip()
        arguments = text[match.end() : end.start()]
        name = " ".join(kernel.split()).replace('"', "")
        new = f'::lisa_host::configure("{name}", {kernel}, {arguments})'
        edits.append(_Edit(start, end.end(), _as_many_lines(new, text[start : end.end()])))
    return edits


def _expression_before(code: str, end: int) -> int | None:
    """Return where the kernel's name begins that ends at ``end``: ``a::b<c<1>, 2>``, or a parenthesis."""
    position = len(code[:end].rstrip())
    if code[position - 1] == ")":
        return _opening(code, position - 1, "(", ")")
    while True:
        if code[position - 1] == ">":
            opened = _opening(code, position - 1, "<", ">")
            if opened is None:
                return None
            position = len(code[:opened].rstrip())
        name = re.search(r"[A-Za-z_]\w*$", code[:position])
        if name is None:
            return None
        position = name.start()
        before = code[:position].rstrip()
        if not before.endswith("::"):
            return position
        position = len(before) - 2
        if not re.search(r"[\w>]\s*$", code[:position]):  # a leading ::
            return position


def _opening(code: str, end: int, opening: str, closed: str) -> int | None:
    depth = 0
    for position in range(end, -1, -1):
        depth += (code[position] == closed) - (code[position] == opening)
        if depth == 0:
            return position
    return None
