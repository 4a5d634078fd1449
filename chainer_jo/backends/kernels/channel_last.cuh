// Images that lie channel-last in memory: rows of C numbers, one row a pixel, read VEC channels at
// a time. HALF chooses the type.
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

// Leaves in the first `width` values what the `height` rows of values combine to, as a tree: the
// order never changes, and rounding grows with the logarithm only.
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

// Leaves in `shared[0]` what all parts of one column, that of the block's number,
// combine to. A block is one thread high.
template <class V>
__device__ void combine_parts(const V* partial, int parts, int columns, V* shared)
{
    V total = {};
    for (int p = threadIdx.x; p < parts; p += blockDim.x)
        total = combined(total, partial[p * columns + blockIdx.x]);
    shared[threadIdx.x] = total;
    combine_rows(shared, 1, blockDim.x);
}
