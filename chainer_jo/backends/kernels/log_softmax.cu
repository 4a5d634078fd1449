// y (B, C) is the logarithm of the softmax of each row of x. One thread per row.
extern "C" __global__ void log_softmax(const float* __restrict__ x, float* __restrict__ y, int B,
                                       int C)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= B) return;
    x += i * C;
    y += i * C;
    float largest = x[0], sum = 0;
    for (int j = 1; j < C; j++) largest = fmaxf(largest, x[j]);
    for (int j = 0; j < C; j++) sum += expf(x[j] - largest);
    float log_sum = logf(sum);
    for (int j = 0; j < C; j++) y[j] = x[j] - largest - log_sum;
}

extern "C" __global__ void gradient_x(const float* __restrict__ y, const float* __restrict__ gy,
                                      float* __restrict__ gx, int B, int C)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= B) return;
    float sum = 0;
    for (int j = i * C; j < (i + 1) * C; j++) sum += gy[j];
    for (int j = i * C; j < (i + 1) * C; j++) gx[j] = gy[j] - expf(y[j]) * sum;
}
