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

// Combines what all blocks of a group of columns found: `shared` holds a value of each thread. Returns
// true in one block, the last to come here, whose first row of `shared` then has the columns' results.
// It adds the parts in their order, whichever block it is. A second launch for that would take longer
// than all it does.
//
// Args: partial (gridDim.x, columns); arrived, a zero for each group, which is a zero again afterwards.
template <class V>
__device__ bool combine_blocks(V* shared, V* partial, unsigned* arrived, int columns)
{
    int column = column_of_thread(), index = index_in_block(), parts = gridDim.x;
    combine_rows(shared, blockDim.x, blockDim.y);
    if (threadIdx.y == 0 && column < columns) partial[blockIdx.x * columns + column] = shared[index];
    // What a block wrote is seen by others before its arrival is, and no earlier value is read after.
    __threadfence();
    __shared__ bool is_last;
    __syncthreads();
    if (index == 0) is_last = atomicAdd(arrived + blockIdx.y, 1u) == parts - 1;
    __syncthreads();
    if (!is_last) return false;
    __threadfence();
    if (index == 0) arrived[blockIdx.y] = 0;
    V total = {};
    if (column < columns)
#pragma unroll 4
        for (int p = threadIdx.y; p < parts; p += blockDim.y)
            total = combined(total, partial[p * columns + column]);
    shared[index] = total;
    combine_rows(shared, blockDim.x, blockDim.y);
    return true;
}
