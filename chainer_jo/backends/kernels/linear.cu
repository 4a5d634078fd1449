// y (N, O) = x (N, I) W' + b, W (O, I), with one thread per element of the result. The last layer
// of a net is too small to need more, and cuBLAS cannot be captured.
extern "C" __global__ void linear(const float* __restrict__ x, const float* __restrict__ W,
                                  const float* __restrict__ b, float* __restrict__ y, int N, int I,
                                  int O)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= N * O) return;
    const float *row = x + i / O * I, *weights = W + i % O * I;
    float sum = 0;
    for (int k = 0; k < I; k++) sum = fmaf(row[k], weights[k], sum);
    y[i] = sum + b[i % O];
}

extern "C" __global__ void gradient_x(const float* __restrict__ W, const float* __restrict__ gy,
                                      float* __restrict__ gx, int N, int I, int O)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= N * I) return;
    float sum = 0;
    for (int o = 0; o < O; o++) sum = fmaf(gy[i / I * O + o], W[o * I + i % I], sum);
    gx[i] = sum;
}

// gW (O, I) and gb (O): b counts as the weight of an input that is always 1.
extern "C" __global__ void gradient_W(const float* __restrict__ x, const float* __restrict__ gy,
                                      float* __restrict__ gW, float* __restrict__ gb, int N, int I,
                                      int O)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= O * (I + 1)) return;
    int o = i / (I + 1), k = i % (I + 1);
    float sum = 0;
    for (int n = 0; n < N; n++) sum = fmaf(gy[n * O + o], k < I ? x[n * I + k] : 1, sum);
    *(k < I ? gW + o * I + k : gb + o) = sum;
}
