#include "channel_last.cuh"

// `out` may be `x` or `y`.
extern "C" __global__ void add(const Pack* x, const Pack* y, Pack* out, int packs)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= packs) return;
    Pack sum = x[i], other = y[i];
    for (int k = 0; k < VEC; k++) sum.at[k] = (T)((float)sum.at[k] + (float)other.at[k]);
    out[i] = sum;
}
