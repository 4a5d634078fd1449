#include <cuda_fp16.h>

// Up to MOST arrays of weights in another type: a block works on one array; `first_block` says
// where the blocks of each begin.
struct Weights {
    const float* source[MOST];
    TARGET* target[MOST];
    int size[MOST];
    int first_block[MOST];
};

extern "C" __global__ void convert(const Weights weights, int count)
{
    int t = 0;
    for (int end = count; end - t > 1;) {
        int middle = (t + end) / 2;
        if (weights.first_block[middle] <= (int)blockIdx.x)
            t = middle;
        else
            end = middle;
    }
    int i = ((int)blockIdx.x - weights.first_block[t]) * blockDim.x + threadIdx.x;
    if (i < weights.size[t]) weights.target[t][i] = (TARGET)weights.source[t][i];
}
