// Parameters and launchers: what crosses the boundary between the binding and the kernels.
#pragma once
#include <cstdint>

struct SwigluForward {
  const float* gate;
  const float* up;
  float* out;
  int64_t count;
};

struct SwigluBackward {
  const float* grad_out;
  const float* gate;
  const float* up;
  float* grad_gate;  // null: not wanted
  float* grad_up;    // null: not wanted
  int64_t count;
};

// `stream` is a cudaStream_t; returns the cudaError_t of the launch.
int swiglu_forward(const SwigluForward& call, void* stream);
int swiglu_backward(const SwigluBackward& call, void* stream);
