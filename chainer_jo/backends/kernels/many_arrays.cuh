// A kernel over up to MOST tuples of arrays: a block works on one of them; `first_block` says where
// the blocks of each begin. Returns which is the block's.
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
