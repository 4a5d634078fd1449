#include "channel_last.cuh"

// y plus b of its channel, in place.
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

// Block (p, q) sums rows [p * chunk, (p + 1) * chunk). `factor` takes the scale of the gradients out.
extern "C" __global__ void gradient(const Pack* __restrict__ gy, float* gb, float factor,
                                    Sum* partial, unsigned* arrived, int rows, int columns, int chunk)
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
    if (!combine_blocks(shared, partial, arrived, columns)) return;
    if (threadIdx.y || column >= columns) return;
    for (int k = 0; k < VEC; k++) gb[column * VEC + k] = factor * shared[index].at[k];
}
