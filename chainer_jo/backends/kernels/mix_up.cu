// mixed (B, length) = lam v_i + (1 - lam) v_j with j = partner[i]. `step` is 1 if each i has its
// own lam, 0 if all share one.
extern "C" __global__ void mix_up(const float* __restrict__ v, const int* __restrict__ partner,
                                  const float* __restrict__ lam, float* __restrict__ mixed, int size,
                                  int length, int step)
{
    int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= size) return;
    int i = k / length;
    float weight = lam[i * step];
    mixed[k] = weight * v[k] + (1 - weight) * v[partner[i] * length + k % length];
}
