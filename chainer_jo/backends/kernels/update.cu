#include "many_arrays.cuh"

struct Tensors {
    float* p[MOST];
    const float* g[MOST];
    float* v[MOST];
    int size[MOST];
    int first_block[MOST];
};

// Momentum SGD with weight decay, as in Chainer.
extern "C" __global__ void update(const Tensors tensors, int count, const float* lr, float momentum,
                                  float decay)
{
    int t = tuple_of_block(tensors.first_block, count);
    int i = ((int)blockIdx.x - tensors.first_block[t]) * blockDim.x + threadIdx.x;
    if (i >= tensors.size[t]) return;
    float p = tensors.p[t][i];
    float v = momentum * tensors.v[t][i] - *lr * (tensors.g[t][i] + decay * p);
    tensors.v[t][i] = v;
    tensors.p[t][i] = p + v;
}
