"""Calls of device functions, printf and assert."""

import numpy as np
import pytest

from lisa_kernels.testing.ptx import PtxError
from tests.testing.ptx.snippets import kernel

SQUARE = """.func (.param .b32 result) square(.param .b32 x) {
.reg .b32 %r<4>; .reg .pred %p<2>; ld.param.b32 %r1, [x]; setp.gt.u32 %p1, %r1, 5; @%p1 bra big;
mul.lo.u32 %r1, %r1, %r1; st.param.b32 [result], %r1; ret;
big: mov.u32 %r2, 1000; st.param.b32 [result], %r2; ret; }"""
TWICE = """.func (.param .b32 result) twice(.param .b32 x) { .reg .b32 %r<4>; ld.param.b32 %r1, [x];
{ .param .b32 a; .param .b32 b; st.param.b32 [a], %r1; call.uni (b), square, (a); ld.param.b32 %r2, [b]; }
add.u32 %r2, %r2, %r2; st.param.b32 [result], %r2; ret; }"""
BODY = """ld.param.u64 %rd0, [out]; mov.u32 %r0, %tid.x; mul.wide.u32 %rd1, %r0, 4; add.s64 %rd2, %rd0, %rd1;
mov.u32 %r3, 7; {guard} bra skip;
{{ .param .b32 p; .param .b32 q; st.param.b32 [p], %r0; call (q), twice, (p); ld.param.b32 %r3, [q]; }}
skip: st.global.b32 [%rd2], %r3;"""


def run(body, module="", threads=32, **options):
    out = np.zeros(threads, "u4")
    report = kernel(body, module=module).launch("k", (1,), (threads,), [out], **options)
    return out.tolist(), report


@pytest.mark.parametrize("schedule", ["lockstep", 1])
def test_functions_call_each_other_and_have_registers_of_their_own(schedule):
    body = BODY.format(guard="setp.lt.u32 %p1, %r0, 3; @%p1")
    got, _ = run(body, SQUARE + TWICE, schedule=schedule)
    assert got == [7] * 3 + [2 * i * i if i <= 5 else 2000 for i in range(3, 32)]


def test_functions_that_call_themselves_are_refused():
    module = ".func f() { call.uni f; ret; }"
    with pytest.raises(PtxError, match="f calls itself"):
        run("call f;", module)


def test_functions_without_a_body_are_refused():
    with pytest.raises(PtxError, match="function f has no body here"):
        run("call f;", ".extern .func f();")


def test_calls_through_a_register_are_refused():
    with pytest.raises(PtxError, match="through a register"):
        run("call %rd0, (), proto;")


EXTERN = """.extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);
.extern .func __assertfail(.param .b64 m, .param .b64 f, .param .b32 l, .param .b64 n, .param .b64 s);
.global .align 1 .b8 format[24] = {105, 61, 37, 100, 32, 120, 61, 37, 46, 50, 102, 32, 37, 108, 108, 117, 32, 37, 37};
.global .align 1 .b8 message[3] = {110, 111, 0}; .global .align 1 .b8 file[5] = {97, 46, 99, 117, 0};"""


def test_printf_fills_its_format_from_the_argument_buffer():
    body = """.local .align 8 .b8 depot[24]; mov.u32 %r0, %tid.x; mov.u64 %rd1, depot; cvta.local.u64 %rd2, %rd1;
    sub.s32 %r1, 0, %r0; st.local.b32 [depot], %r1; mov.f64 %d0, 0d4004000000000000; st.local.f64 [depot+8], %d0;
    mov.u64 %rd3, 12345678901; st.local.b64 [depot+16], %rd3; mov.u64 %rd4, format; cvta.global.u64 %rd5, %rd4;
    { .param .b64 p0; st.param.b64 [p0], %rd5; .param .b64 p1; st.param.b64 [p1], %rd2; .param .b32 r;
    call.uni (r), vprintf, (p0, p1); ld.param.b32 %r2, [r]; }"""
    _, report = run(body, EXTERN, threads=2)
    assert report.printed == ("i=0 x=2.50 12345678901 %", "i=-1 x=2.50 12345678901 %")


def test_a_failed_assert_names_its_message_and_the_threads():
    body = """mov.u32 %r0, %tid.x; setp.lt.u32 %p0, %r0, 30; @%p0 bra fine; mov.u64 %rd1, message;
    cvta.global.u64 %rd1, %rd1; mov.u64 %rd2, file; cvta.global.u64 %rd2, %rd2; mov.u32 %r1, 17; mov.u64 %rd3, 1;
    { .param .b64 a; st.param.b64 [a], %rd1; .param .b64 b; st.param.b64 [b], %rd2; .param .b32 c;
    st.param.b32 [c], %r1; .param .b64 d; st.param.b64 [d], %rd2; .param .b64 e; st.param.b64 [e], %rd3;
    call.uni __assertfail, (a, b, c, d, e); } fine:"""
    with pytest.raises(PtxError) as caught:
        run(body, EXTERN)
    assert (caught.value.kind, caught.value.threads) == ("assert", (30, 31))
    assert caught.value.detail == "no (a.cu:17)"


def test_trap_is_a_fault():
    with pytest.raises(PtxError, match="trap: the kernel stopped itself"):
        run("trap;")
