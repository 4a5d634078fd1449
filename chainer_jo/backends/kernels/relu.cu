#include "channel_last.cuh"

// gx is gy where y, the result of a ReLU, is positive.
extern "C" __global__ void gradient_x(const Pack* __restrict__ y, const Pack* __restrict__ gy,
                                      Pack* __restrict__ gx, int packs)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= packs) return;
    Pack result = y[i], g = gy[i];
    for (int k = 0; k < VEC; k++) result.at[k] = (float)result.at[k] > 0 ? g.at[k] : (T)0.0f;
    gx[i] = result;
}
