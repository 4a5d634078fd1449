// For kernels over up to MOST tuples of arrays, where each block works on one tuple: returns the
// tuple of this block. `first_block` holds the first block of each tuple.
__device__ int tuple_of_block(const int* first_block, int count)
{
    int t = 0;
    for (int end = count; end - t > 1;) {
        int middle = (t + end) / 2;
        if (first_block[middle] <= (int)blockIdx.x)
            t = middle;
        else
            end = middle;
    }
    return t;
}
