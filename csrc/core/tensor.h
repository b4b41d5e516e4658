// What bindings ask of a tensor.  Light ATen headers only.
#pragma once
#include <ATen/core/Tensor.h>

#include "dtype.h"

namespace lisa {

// `op` is the public function, for the message.
inline Dtype dtype_of(const at::Tensor& tensor, const char* op, const char* argument) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return Dtype::kFloat32;
    case at::kDouble: return Dtype::kFloat64;
    case at::kBFloat16: return Dtype::kBFloat16;
    case at::kHalf: return Dtype::kFloat16;
    default:
      TORCH_CHECK_TYPE(false, op, ": ", argument, " is ", tensor.scalar_type(),
                       "; the native kernel takes float32, float64, bfloat16 or float16.");
  }
}

// What a tensor's values are computed in.
inline at::ScalarType real_of(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace lisa
