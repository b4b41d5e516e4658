// Where the CUDA binding of an op registers it.  A build for tests without a GPU names another library and key: the
// kernels then run on CPU tensors, through csrc/testing.
#pragma once

#ifndef LISA_CUDA_LIBRARY
#define LISA_CUDA_LIBRARY lisa_C
#define LISA_CUDA_KEY CUDA
#endif
