// What is not modelled does not compile.  Headers that are not modelled are refused by the translator.
#pragma once

#define LISA_HOST_TEXT(text) #text
#define LISA_HOST_PRAGMA(text) _Pragma(LISA_HOST_TEXT(text))
#define LISA_HOST_REFUSE(message) LISA_HOST_PRAGMA(GCC error message)

// What the translator writes for the words `asm` and `__shared__` where it cannot translate them.
#define LISA_HOST_REFUSE_ASM LISA_HOST_REFUSE("inline PTX (asm) is not modelled on the host") asm
#define LISA_HOST_REFUSE_SHARED \
  LISA_HOST_REFUSE("a __shared__ that is no plain variable of a function is not modelled on the host")

// Before the names of libcu++, whose pipeline <cuda_pipeline.h> is a part of.
#define LISA_HOST_REFUSE_LIBCUXX \
  LISA_HOST_REFUSE("libcu++ (cuda::pipeline, cuda::barrier and their like) is not modelled on the host")

#undef __cluster_dims__
#define __cluster_dims__(...) LISA_HOST_REFUSE("a thread block cluster (__cluster_dims__) is not modelled on the host")
#define __activemask() \
  LISA_HOST_REFUSE("__activemask, whose value the language leaves open is not modelled on the host") 0
#define __barrier_sync(...) LISA_HOST_REFUSE("a named barrier (__barrier_sync) is not modelled on the host")
#define __barrier_sync_count(...) LISA_HOST_REFUSE("a named barrier (__barrier_sync_count) is not modelled on the host")
#define __cvta_generic_to_shared(...) \
  LISA_HOST_REFUSE("a shared-memory address (__cvta_generic_to_shared) is not modelled on the host") 0
#define cudaLaunchCooperativeKernel(...) \
  LISA_HOST_REFUSE("a cooperative launch (cudaLaunchCooperativeKernel) is not modelled on the host") cudaSuccess
#define cudaLaunchKernelEx(...) \
  LISA_HOST_REFUSE("a launch with attributes (cudaLaunchKernelEx) is not modelled on the host") cudaSuccess
#define cudaEventElapsedTime(...) \
  LISA_HOST_REFUSE("time (cudaEventElapsedTime) is not modelled on the host") cudaSuccess
#define clock64() LISA_HOST_REFUSE("time (clock64) is not modelled on the host") 0
#define tex1Dfetch LISA_HOST_REFUSE("a texture (tex1Dfetch) is not modelled on the host") tex1Dfetch
#define tex1D LISA_HOST_REFUSE("a texture (tex1D) is not modelled on the host") tex1D
#define tex2D LISA_HOST_REFUSE("a texture (tex2D) is not modelled on the host") tex2D
#define tex3D LISA_HOST_REFUSE("a texture (tex3D) is not modelled on the host") tex3D
#define surf2Dread LISA_HOST_REFUSE("a surface (surf2Dread) is not modelled on the host") surf2Dread
#define surf2Dwrite LISA_HOST_REFUSE("a surface (surf2Dwrite) is not modelled on the host") surf2Dwrite
