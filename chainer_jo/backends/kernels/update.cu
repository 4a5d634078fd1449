// Momentum SGD with weight decay, as Chainer's: one step for up to TENSORS arrays. A block works on
// one array; `first_block` says where the blocks of each begin.
struct Tensors {
    float* p[TENSORS];
    const float* g[TENSORS];
    float* v[TENSORS];
    int size[TENSORS];
    int first_block[TENSORS];
};

extern "C" __global__ void update(const Tensors tensors, int count, const float* lr, float momentum,
                                  float decay)
{
    int t = 0;
    for (int end = count; end - t > 1;) {
        int middle = (t + end) / 2;
        if (tensors.first_block[middle] <= (int)blockIdx.x)
            t = middle;
        else
            end = middle;
    }
    int i = ((int)blockIdx.x - tensors.first_block[t]) * blockDim.x + threadIdx.x;
    if (i >= tensors.size[t]) return;
    float p = tensors.p[t][i];
    float v = momentum * tensors.v[t][i] - *lr * (tensors.g[t][i] + decay * p);
    tensors.v[t][i] = v;
    tensors.p[t][i] = p + v;
}
