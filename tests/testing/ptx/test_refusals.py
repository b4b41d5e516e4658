"""Nothing is skipped: what is not modelled is refused before anything runs, and said by name."""

import re
import subprocess
import sys

import numpy as np
import pytest

from lisa_kernels.testing.ptx import KINDS, PtxError, supported
from tests.testing.ptx.snippets import kernel

# One well-formed mnemonic of every form is derived from its syntax line.
FORMS = [(opcode, form) for opcode, forms in supported().items() for form in forms]


def refusal(code):
    x = np.zeros(1, "u4")
    with pytest.raises(PtxError) as caught:
        kernel(f"ld.param.u64 %rd0, [out]; st.global.b32 [%rd0], 1; {code}").launch("k", (1,), (1,), [x])
    assert caught.value.kind == "unsupported"
    assert x[0] == 0, "the kernel ran before it was refused"
    return caught.value


@pytest.mark.parametrize(
    "code",
    [
        "tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r0], 64;",
        "mbarrier.frobnicate.shared.b64 [%r0], 1;",
        "cp.async.bulk.frobnicate.shared::cluster.global [%r0], [%rd0], 16, [%r1];",
        "barrier.cluster.arrive.aligned;",
        "brx.idx %r0, table;",
        "vadd.s32.s32.s32 %r0, %r1, %r2;",
        "frobnicate.b32 %r0, %r1;",
    ],
)
def test_instructions_that_are_not_modelled_are_named(code):
    caught = refusal(code)
    assert caught.instruction.split()[0] == code.split()[0].rstrip(";")
    assert code.split(".")[0].split()[0] in caught.detail


@pytest.mark.parametrize(("opcode", "form"), FORMS, ids=[form[:60] for _, form in FORMS])
def test_a_modifier_that_a_form_does_not_declare_is_refused(opcode, form):
    mnemonic = _instance(form)
    with pytest.raises(PtxError, match="not modelled; known forms"):
        _find(mnemonic + ".frobnicate")
    # In the middle, behind the opcode, as well.
    if "." in mnemonic:
        with pytest.raises(PtxError, match="not modelled"):
            _find(mnemonic.replace(".", ".frobnicate.", 1))
    _find(mnemonic)


@pytest.mark.parametrize(
    "mnemonic",
    ["add.approx.f32", "add.rn.s32", "mul.s32", "fma.f32", "ld.global.v3.b32", "st.global.nc.b32", "shfl.up.b32",
     "mma.sync.aligned.m16n8k16.col.row.f32.f16.f16.f32", "atom.global.mul.u32", "cvt.f16.f32.f32", "bar.sync.relaxed",
     "cp.async.cg.shared.global.trans", "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.f16", "min.ftz.f64"],
)  # fmt: skip
def test_known_modifiers_in_the_wrong_place_are_refused(mnemonic):
    with pytest.raises(PtxError, match="not modelled"):
        _find(mnemonic)


@pytest.mark.parametrize(
    "text",
    ["mov.u32 %r0, %clusterid.x;", "mov.u32 %r0, %undeclared1;", "bra nowhere;", "@@p0 mov.u32 %r0, 1;",
     ".global .texref t;"],
)  # fmt: skip
def test_text_that_is_not_understood_is_refused(text):
    refusal(text)


def test_every_fault_kind_is_known():
    with pytest.raises(AssertionError):
        PtxError("some new kind", "...")
    assert len(set(KINDS)) == len(KINDS)


def test_the_command_lists_every_form():
    command = [sys.executable, "-m", "lisa_kernels.testing.ptx", "--list"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {form for _, form in FORMS} <= set(printed)
    assert printed[-1] == f"{len(supported())} opcodes, {len(FORMS)} forms"


def _find(mnemonic):
    from lisa_kernels.testing.ptx.syntax import find_handler

    return find_handler(mnemonic)


def _instance(form):
    """The shortest mnemonic of a form: optional parts left out, the first choice of each group."""
    while "[" in form:
        form = re.sub(r"\[[^\[\]]*\]", "", form)
    while "(" in form:
        form = re.sub(r"\(([^|()]*)(\|[^()]*)?\)", r"\1", form)
    return form.replace("#", "8")


FUNCTIONS = """.func (.param .b32 r) twice(.param .b32 a) {
.reg .b32 %x; ld.param.b32 %x, [a]; st.param.b32 [r], %x; ret; }
.global .align 8 .u64 table[1] = {twice};
.visible .entry calls() { .reg .b64 %t; ld.global.u64 %t, [table]; { .param .b32 p; .param .b32 q;
prototype_0 : .callprototype (.param .b32 _) _ (.param .b32 _); call (q), %t, (p), prototype_0; } ret; }"""


def test_function_pointers_refuse_the_kernel_that_calls_them_and_no_other():
    module = kernel("", "", module=FUNCTIONS)
    module.launch("k", (1,), (1,), [])
    with pytest.raises(PtxError, match="calls through a register are not modelled"):
        module.launch("calls", (1,), (1,), [])


def test_a_refusal_names_the_three_nearest_forms():
    with pytest.raises(PtxError) as caught:
        _find("add.rn.f32.e4m3")
    known = caught.value.detail.split("known forms: ")[1].split("; ")
    assert len(known) == 3
    assert any(form.endswith(".f32.(f16|bf16)") for form in known)
