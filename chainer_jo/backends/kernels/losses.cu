// Returns the sum of the values of all threads of a block, added as a tree: the order never
// changes.
__device__ float sum_of_block(float value)
{
    __shared__ float values[THREADS];
    int t = threadIdx.x;
    values[t] = value;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) values[t] += values[t + half];
    }
    __syncthreads();
    float sum = values[0];
    __syncthreads();
    return sum;
}

// L = L_c + alpha L_p + beta L_e for labels y and outputs log_f, (B, C), in one block. L_c is the
// KL divergence or, if not `kl`, the cross entropy. f_sums (C) gets the sums of f over the batch.
// If alpha is 0, neither f_sums nor L_p is computed: L_p may be infinite, and 0 times it NaN.
extern "C" __global__ void joint_loss(const float* __restrict__ y, const float* __restrict__ log_f,
                                      float alpha, float beta, int kl, float* __restrict__ loss,
                                      float* __restrict__ f_sums, int B, int C)
{
    float sum = 0;
    for (int i = threadIdx.x; i < B * C; i += THREADS) {
        float log_y = kl && y[i] > 0 ? logf(y[i]) : 0;
        sum += y[i] * (log_y - log_f[i]);
        if (beta != 0) sum -= beta * expf(log_f[i]) * log_f[i];
    }
    float L = sum_of_block(sum) / B;
    for (int j = 0; j < C && alpha != 0; j++) {
        float f_j = 0;
        for (int i = threadIdx.x; i < B; i += THREADS) f_j += expf(log_f[i * C + j]);
        f_j = sum_of_block(f_j);
        if (threadIdx.x == 0) f_sums[j] = f_j;
        L -= alpha * logf(C * f_j / B) / C;
    }
    if (threadIdx.x == 0) *loss = L;
}

// The gradient of log_f, *gy times the derivative of the loss; one thread per element.
extern "C" __global__ void joint_loss_gradient(const float* __restrict__ y,
                                               const float* __restrict__ log_f, float alpha,
                                               float beta, const float* __restrict__ f_sums,
                                               const float* __restrict__ gy,
                                               float* __restrict__ gx, int B, int C)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= B * C) return;
    float f = expf(log_f[i]), g = -y[i] / B;
    if (alpha != 0) g -= alpha * f / (C * f_sums[i % C]);
    if (beta != 0) g -= beta * f * (log_f[i] + 1) / B;
    gx[i] = *gy * g;
}

__device__ int argmax(const float* row, int C)
{
    int best = 0;
    for (int j = 1; j < C; j++)
        if (row[j] > row[best]) best = j;
    return best;
}

// Adds the B images of a batch to an epoch's sums (3): loss, images and hits. One block.
extern "C" __global__ void add_to_sums(const float* __restrict__ loss,
                                       const float* __restrict__ log_f,
                                       const float* __restrict__ y, double* sums, int B, int C)
{
    float hits = 0;
    for (int i = threadIdx.x; i < B; i += THREADS)
        hits += argmax(log_f + i * C, C) == argmax(y + i * C, C);
    hits = sum_of_block(hits);
    if (threadIdx.x > 0) return;
    sums[0] += (double)*loss * B;
    sums[1] += B;
    sums[2] += hits;
}
