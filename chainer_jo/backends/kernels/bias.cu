#include "channel_last.cuh"

// Adds b of its channel to each element of y, in place.
extern "C" __global__ void add(Pack* __restrict__ y, const float* __restrict__ b, int packs,
                               int columns)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= packs) return;
    Pack now = y[i];
    for (int k = 0; k < VEC; k++)
        now.at[k] = (T)((float)now.at[k] + b[i % columns * VEC + k]);
    y[i] = now;
}

struct Sum {
    float at[VEC];
};

__device__ Sum combined(Sum a, Sum b)
{
    for (int k = 0; k < VEC; k++) a.at[k] += b.at[k];
    return a;
}

// Block (p, q) writes the sums of rows [p * chunk, (p + 1) * chunk) to partial[p].
extern "C" __global__ void sums(const Pack* __restrict__ gy, Sum* __restrict__ partial, int rows,
                                int columns, int chunk)
{
    __shared__ Sum shared[THREADS];
    int column = column_of_thread(), index = index_in_block();
    int end = column < columns ? min((blockIdx.x + 1) * chunk, rows) : 0;
    Sum sum = {};
    for (int row = blockIdx.x * chunk + threadIdx.y; row < end; row += blockDim.y) {
        Pack now = gy[(long long)row * columns + column];
        for (int k = 0; k < VEC; k++) sum.at[k] += (float)now.at[k];
    }
    shared[index] = sum;
    combine_rows(shared, blockDim.x, blockDim.y);
    if (threadIdx.y == 0 && column < columns)
        partial[blockIdx.x * columns + column] = shared[index];
}

// One block per pack of channels. `factor` removes the scale factor of the gradients.
extern "C" __global__ void finish_sums(const Sum* __restrict__ partial, int parts, int columns,
                                       float* gb, float factor)
{
    __shared__ Sum shared[THREADS];
    combine_parts(partial, parts, columns, shared);
    if (threadIdx.x < VEC)
        gb[blockIdx.x * VEC + threadIdx.x] = factor * shared[0].at[threadIdx.x];
}
