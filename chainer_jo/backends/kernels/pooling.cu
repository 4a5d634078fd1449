#include "channel_last.cuh"

struct Sum {
    float at[VEC];
};

__device__ Sum combined(Sum a, Sum b)
{
    for (int k = 0; k < VEC; k++) a.at[k] += b.at[k];
    return a;
}

// y (N, C) is the mean over the `pixels` rows of each image. Block (n, q) computes image n.
extern "C" __global__ void average(const Pack* __restrict__ x, float* __restrict__ y, int pixels,
                                   int columns)
{
    __shared__ Sum shared[THREADS];
    int column = column_of_thread(), index = index_in_block();
    Sum sum = {};
    for (int row = threadIdx.y; row < pixels && column < columns; row += blockDim.y) {
        Pack now = x[((long long)blockIdx.x * pixels + row) * columns + column];
        for (int k = 0; k < VEC; k++) sum.at[k] += (float)now.at[k];
    }
    shared[index] = sum;
    combine_rows(shared, blockDim.x, blockDim.y);
    if (threadIdx.y > 0 || column >= columns) return;
    for (int k = 0; k < VEC; k++)
        y[(blockIdx.x * columns + column) * VEC + k] = shared[index].at[k] / pixels;
}

// Every pixel of an image gets `factor` times the gradient of its mean.
extern "C" __global__ void average_gradient(const float* __restrict__ gy, Pack* __restrict__ gx,
                                            float factor, int pixels, int columns)
{
    int column = column_of_thread();
    if (column >= columns) return;
    Pack gradient;
    for (int k = 0; k < VEC; k++)
        gradient.at[k] = (T)(factor * gy[(blockIdx.x * columns + column) * VEC + k]);
    for (int row = threadIdx.y; row < pixels; row += blockDim.y)
        gx[((long long)blockIdx.x * pixels + row) * columns + column] = gradient;
}
