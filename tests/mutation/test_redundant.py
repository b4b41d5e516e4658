"""What counts as superfluous: only what another instruction does on every way."""

import pytest

from lisa_kernels.testing.mutation import ptx_mutants
from tests.mutation.redundant import why_redundant


def reasons(text):
    """Return the mutants' reasons by line, for barriers and waits."""
    mutants = [mutant for mutant in ptx_mutants(text) if mutant.kind in ("barrier", "wait")]
    return {mutant.line: bool(why_redundant(text, mutant)) for mutant in mutants}


def test_a_barrier_after_a_barrier_is_superfluous_and_one_after_a_write_is_not():
    assert reasons("bar.sync 0;\nbar.sync 0;\nld.shared.b32 %r1, [%r2];") == {1: True, 2: True}
    assert reasons("st.shared.b32 [%r1], %r2;\nbar.sync 0;\nld.shared.b32 %r1, [%r2];") == {2: False}
    assert reasons("bar.sync 0;\nld.shared.b32 %r1, [%r2];\nbar.sync 0;\nst.shared.b32 [%r1], %r2;") == {
        1: True, 3: False
    }  # fmt: skip


def test_a_barrier_between_reads_is_superfluous():
    text = "st.shared.b32 [%r1], %r2;\nbar.sync 0;\nld.shared.b32 %r1, [%r2];\nbar.sync 0;\nld.shared.b32 %r1, [%r2];"
    assert reasons(text) == {2: False, 4: True}


LOOP = """\
st.shared.b32 [%r1], %r2;
bar.sync 0;
$loop:
bar.sync 0;
ld.shared.b32 %r3, [%r4];
{body}
@%p1 bra $loop;
ret;"""


@pytest.mark.parametrize(("body", "superfluous"), [("", True), ("st.shared.b32 [%r1], %r3;", False)])
def test_the_way_round_a_loop_counts(body, superfluous):
    """The barrier at the loop's head follows another one at entry, and the body on every later turn."""
    assert reasons(LOOP.format(body=body))[4] == superfluous


def test_a_wait_is_superfluous_only_beside_one_that_leaves_as_few_groups():
    assert reasons("cp.async.wait_group 1;\ncp.async.wait_group 1;\nbar.sync 0;")[2]
    assert not reasons("cp.async.commit_group;\ncp.async.wait_group 2;\ncp.async.wait_group 1;\nbar.sync 0;")[3]
    assert not reasons("cp.async.wait_group 1;\ncp.async.commit_group;\ncp.async.wait_group 1;\nbar.sync 0;")[3]


def test_a_fence_is_superfluous_only_when_nothing_was_written_since_the_last_one():
    fence, write = "fence.proxy.async.shared::cta;", "st.shared.b32 [%r1], %r2;"
    assert reasons(f"{write}\n{fence}\n{fence}") == {2: False, 3: True}
    assert reasons(f"{write}\n{fence}\n{write}\n{fence}") == {2: False, 4: False}
    text = f"cp.async.commit_group;\n{fence}\ncp.async.wait_group 0;\n{fence}\nld.shared.b32 %r1, [%r2];"
    assert not reasons(text)[4], "a copy ends between them"
