// CUDA C++ kernels under a C++ compiler: force-included before a .cu file that the translator has been over.
// README.md says what is modelled.
#pragma once
#include "keywords.h"

#include "async_copy.h"
#include "atomics.h"
#include "barrier.h"
#include "exports.h"
#include "half_math.h"
#include "intrinsics.h"
#include "packed_integers.h"
#include "runtime.h"
#include "shared.h"
#include "warp.h"

#include "refused.h"
