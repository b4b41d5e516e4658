// What cuda_fp16.h and cuda_bf16.h have for device code only.
#pragma once
#include "keywords.h"

// In double, then one rounding: the sum is exact but for addends some 2^30 times smaller than the product.
inline __half __hfma(__half a, __half b, __half c) {
  return __double2half(std::fma(double{__half2float(a)}, double{__half2float(b)}, double{__half2float(c)}));
}
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
  return __double2bfloat16(
      std::fma(double{__bfloat162float(a)}, double{__bfloat162float(b)}, double{__bfloat162float(c)}));
}
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
  return __half2{__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
  return __nv_bfloat162{__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
