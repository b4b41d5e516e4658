// What bindings share.  Light ATen headers only.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

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

inline void* pointer_or_null(const at::Tensor& optional) { return optional.numel() ? optional.data_ptr() : nullptr; }

// Memory of a call, from a boundary of 64 bytes on.
struct Scratch {
  at::Tensor bytes;
  char* data;

  Scratch(int64_t count, const at::Tensor& like) : bytes(at::empty({count + 63}, like.options().dtype(at::kByte))) {
    data = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(bytes.data_ptr()) + 63) / 64 * 64);
  }
};

// `error`: the cudaError_t of a launcher.
inline void check_launch(int error, const char* op) {
  TORCH_CHECK(error == 0, op, ": a launch failed with CUDA error ", error, ".");
}

}  // namespace lisa
