// Integer functions of device code; a row of `results` for each, in words.
#include <cuda_runtime.h>

#define PARTS(name) name##2(x, y), name##4(x, y)
#define PARTS_OF_ONE(name) name##2(x), name##4(x)

extern "C" __global__ void integers_kernel(const unsigned* left, const unsigned* right, unsigned* results, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const unsigned x = left[i], y = right[i];
  const int signed_x = static_cast<int>(x), signed_y = static_cast<int>(y);
  const unsigned values[] = {
      static_cast<unsigned>(__mul24(signed_x, signed_y)),
      __umul24(x, y),
      static_cast<unsigned>(__mulhi(signed_x, signed_y)),
      __umulhi(x, y),
      __sad(signed_x, signed_y, 7u),
      __usad(x, y, 7u),
      static_cast<unsigned>(__hadd(signed_x, signed_y)),
      static_cast<unsigned>(__rhadd(signed_x, signed_y)),
      __uhadd(x, y),
      __urhadd(x, y),
      static_cast<unsigned>(__dp4a(signed_x, signed_y, -7)),
      __dp4a(x, y, 7u),
      static_cast<unsigned>(__mul64hi(static_cast<long long>(x) << 32 | y, -static_cast<long long>(y) << 20)),
      PARTS(__vadd),
      PARTS(__vaddss),
      PARTS(__vaddus),
      PARTS(__vsub),
      PARTS(__vsubss),
      PARTS(__vsubus),
      PARTS(__vavgs),
      PARTS(__vavgu),
      PARTS(__vhaddu),
      PARTS(__vmaxs),
      PARTS(__vmaxu),
      PARTS(__vmins),
      PARTS(__vminu),
      PARTS(__vcmpeq),
      PARTS(__vcmpne),
      PARTS(__vcmpges),
      PARTS(__vcmpgts),
      PARTS(__vcmples),
      PARTS(__vcmplts),
      PARTS(__vcmpgeu),
      PARTS(__vcmpgtu),
      PARTS(__vcmpleu),
      PARTS(__vcmpltu),
      PARTS(__vseteq),
      PARTS(__vsetne),
      PARTS(__vsetges),
      PARTS(__vsetgts),
      PARTS(__vsetles),
      PARTS(__vsetlts),
      PARTS(__vsetgeu),
      PARTS(__vsetgtu),
      PARTS(__vsetleu),
      PARTS(__vsetltu),
  };
  for (int function = 0; function < sizeof(values) / 4; function++) results[function * count + i] = values[function];
}

// Those that nvcc makes instructions of video of, which the PTX emulator has not.
extern "C" __global__ void differences_kernel(const unsigned* left, const unsigned* right, unsigned* results) {
  const unsigned x = left[0], y = right[0];
  const int signed_x = static_cast<int>(x), signed_y = static_cast<int>(y);
  const unsigned values[] = {
      PARTS_OF_ONE(__vneg),
      PARTS_OF_ONE(__vnegss),
      PARTS_OF_ONE(__vabs),
      PARTS_OF_ONE(__vabsss),
      PARTS(__vabsdiffu),
      PARTS(__vabsdiffs),
      PARTS(__vsads),
      PARTS(__vsadu),
      __dp2a_lo(x, y, 7u),
      __dp2a_hi(x, y, 7u),
      static_cast<unsigned>(__dp2a_lo(signed_x, signed_y, -7)),
      static_cast<unsigned>(__dp2a_hi(signed_x, signed_y, -7)),
  };
  for (int function = 0; function < sizeof(values) / 4; function++) results[function] = values[function];
}
