// Images that are channel-last in memory: one row of C numbers per pixel, read VEC channels at a
// time. HALF selects the type.
#if HALF
#include <cuda_fp16.h>
typedef __half T;
#else
typedef float T;
#endif

struct alignas(VEC * sizeof(T)) Pack {
    T at[VEC];
};

// A block is blockDim.x packs of channels wide and blockDim.y, a power of two, rows high.
__device__ int column_of_thread()
{
    return blockIdx.y * blockDim.x + threadIdx.x;
}

__device__ int index_in_block()
{
    return threadIdx.y * blockDim.x + threadIdx.x;
}

// Combines `height` rows of values into the first `width` values, as a tree: the order never
// changes, and rounding grows only with the logarithm of the height.
template <class V>
__device__ void combine_rows(V* values, int width, int height)
{
    int index = index_in_block();
    for (int half = height / 2; half > 0; half /= 2) {
        __syncthreads();
        if (index < half * width)
            values[index] = combined(values[index], values[index + half * width]);
    }
    __syncthreads();
}

// Combines all parts of the column with the block's number into `shared[0]`. A block is one thread
// high.
template <class V>
__device__ void combine_parts(const V* partial, int parts, int columns, V* shared)
{
    V total = {};
    for (int p = threadIdx.x; p < parts; p += blockDim.x)
        total = combined(total, partial[p * columns + blockIdx.x]);
    shared[threadIdx.x] = total;
    combine_rows(shared, 1, blockDim.x);
}
