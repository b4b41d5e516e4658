"""What the translator changes, and that all else stays on its line."""

import ctypes

import pytest

from lisa_kernels.testing.cuda.source_text import blanked, includes
from lisa_kernels.testing.cuda.translate import translate, translate_tree


@pytest.mark.parametrize(
    ("launch", "kernel", "arguments"),
    [
        ("k<<<1, 2>>>(x);", "k", "1, 2"),
        ("lisa::k<<<grid, {32, 1, 1}, 0, stream>>>(x);", "lisa::k", "grid, {32, 1, 1}, 0, stream"),
        ("::lisa::k<a<1>, 2> <<< f(1, 2), 3 >>> (x);", "::lisa::k<a<1>, 2>", "f(1, 2), 3"),
        ("a<int>::k<<<1, 2>>>(x);", "a<int>::k", "1, 2"),
        ("(wide ? k<4> : k<1>)<<<1, 2>>>(x);", "(wide ? k<4> : k<1>)", "1, 2"),
        ("return k<T>\n<<<1,\n2>>>(x);", "k<T>", "1, 2"),
    ],
)
def test_a_launch_becomes_a_call(launch, kernel, arguments):
    got = translate(f"void f() {{ {launch} }}\n")
    call = f'::lisa_host::configure("{kernel}", {kernel}, {arguments})(x);'
    assert "".join(call.split()) in "".join(got.split())
    assert got.count("\n") == launch.count("\n") + 1


@pytest.mark.parametrize("text", ["a <<= 3; b = 1 << 2 >> 3;", '// k<<<1, 2>>>(x)\nf("k<<<1, 2>>>(x)");'])
def test_what_is_no_launch_stays(text):
    assert translate(text) == text


@pytest.mark.parametrize(
    ("declaration", "kind", "name"),
    [
        ("__shared__ float a[4];", "float {}[4]", "a"),
        ("__shared__ float a[N / 32][M + 1];", "float {}[N / 32][M + 1]", "a"),
        ("static __shared__ pair<int, float> a;", "pair<int, float> {}", "a"),
        ("volatile __shared__ unsigned char a[2], b;", "volatile unsigned char {}", "b"),
        ("__shared__ float a[2], b[3];", "float {}[2]", "a"),
    ],
)
def test_a_shared_variable_refers_to_the_block_s_memory(declaration, kind, name):
    got = translate(f"__device__ void f() {{ {declaration} }}")
    assert f"typedef {kind.format(f'lisa_host_type_of_{name}')};" in got
    assert f"lisa_host_type_of_{name}& {name} = ::lisa_host::shared_variable<lisa_host_type_of_{name}>" in got
    assert "__shared__" not in got


def test_alignment_is_kept():
    got = translate("__global__ void k() { __shared__ __align__(16) float a[4]; }")
    assert '"a", 16)' in got
    assert "typedef float lisa_host_type_of_a[4]" in got


@pytest.mark.parametrize("alignment", ["", "__align__(16) ", "alignas(16) "])
def test_dynamic_shared_memory_becomes_a_pointer(alignment):
    got = translate(f"__global__ void k() {{ extern __shared__ {alignment}unsigned char raw[]; }}")
    assert "unsigned char* raw = ::lisa_host::dynamic_shared<unsigned char>()" in got


@pytest.mark.parametrize("scope", ["{}", "namespace {{ {} }}", "namespace a::b {{ {} }}", 'extern "C" {{ {} }}'])
def test_shared_memory_outside_a_function_is_refused(scope):
    got = translate(scope.format("extern __shared__ float raw[];"))
    assert "LISA_HOST_REFUSE_SHARED float raw[];" in got
    assert "LISA_HOST_REFUSE" not in translate(scope.format("__device__ void f() { extern __shared__ float raw[]; }"))


def test_shared_memory_in_a_macro_is_refused():
    """Two uses in one function could not be told apart."""
    got = translate("void f() {\n#define STAGE(T, name) \\\n  __shared__ T name[4];\n}\n")
    assert "LISA_HOST_REFUSE_SHARED T name[4];" in got


def test_kernels_are_exported_unless_templates_or_declarations():
    others = "template <int N>\n__global__ void t() {}\n__global__ void d();\n"
    got = translate(others + "__global__ void __launch_bounds__(f(1), 2) k() {}")
    assert got.count("LISA_HOST_EXPORT") == 1
    assert got.endswith("k() { ::lisa_host::check_launch_bounds(f(1));} LISA_HOST_EXPORT(k)")


def test_a_kernel_that_a_macro_defines_still_runs(build):
    source = (
        "#define DEFINE(T) __global__ void k_##T(T* x) { *x = 1; }\nDEFINE(int)\n"
        'extern "C" void f(int* x) { k_int<<<1, 1>>>(x); }\n'
    )
    value = ctypes.c_int(0)
    build(source).call("f", ctypes.byref(value), returns=None)
    assert value.value == 1


def test_comments_strings_and_digit_separators_are_told_apart():
    text = "int a = 1'000'000; // it's\nf(\"//\", '\"'); /* { */ g(R\"(})\");"
    code = blanked(text)
    assert len(code) == len(text)
    assert "1'000'000;" in code
    assert not set("{}/") & set(code)
    assert "g(" in code


def test_an_include_in_a_comment_is_none():
    assert [name for _, _, name in includes('// #include "a.h"\n#include "b.h"\n # include <c.h>\n')] == ["b.h", "c.h"]


def test_files_of_the_project_are_translated_too_and_once(tmp_path):
    (tmp_path / "sum.cuh").write_text("#pragma once\n__device__ void s() { __shared__ int a; }\n")
    (tmp_path / "both.cuh").write_text('#pragma once\n#include "sum.cuh"\n')
    (tmp_path / "k.cu").write_text(
        '#include "both.cuh"\n#include "sum.cuh"\n#include <vector>\n#include <cuda_runtime.h>\n'
    )
    texts = translate_tree(tmp_path / "k.cu", [])
    assert list(texts) == ["0_k.cu", "1_both.cuh", "2_sum.cuh"]
    assert "shared_variable" in texts["2_sum.cuh"]
    assert texts["1_both.cuh"].splitlines()[2] == '#include "2_sum.cuh"'
    assert texts["0_k.cu"].splitlines()[1:] == [
        '#include "1_both.cuh"',
        '#include "2_sum.cuh"',
        "#include <vector>",
        "",
    ]


def test_brackets_that_do_not_match_are_told():
    with pytest.raises(ValueError, match="line 2"):
        translate("\n__global__ void k() {")
