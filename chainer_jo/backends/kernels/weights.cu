#include <cuda_fp16.h>

#include "many_arrays.cuh"

struct Weights {
    const float* source[MOST];
    __half* target[MOST];
    int size[MOST];
    int first_block[MOST];
};

extern "C" __global__ void to_half(const Weights weights, int count)
{
    int t = tuple_of_block(weights.first_block, count);
    int i = ((int)blockIdx.x - weights.first_block[t]) * blockDim.x + threadIdx.x;
    if (i < weights.size[t]) weights.target[t][i] = (__half)weights.source[t][i];
}
