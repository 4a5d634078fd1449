#if HALF
#include <cuda_fp16.h>
#endif

// Copies `factor` times a source with the given strides, in elements, to a target of the same
// shape, channel-last (-, H, W, C): this changes the type, the layout, or both.
extern "C" __global__ void copy(const SOURCE* __restrict__ source, TARGET* __restrict__ target,
                                float factor, int size, int H, int W, int C, int stride_n,
                                int stride_h, int stride_w, int stride_c)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    long long place = (long long)(i / (H * W * C)) * stride_n + (i / (W * C) % H) * stride_h +
                      (i / C % W) * stride_w + i % C * stride_c;
    target[i] = (TARGET)(factor * (float)source[place]);
}
