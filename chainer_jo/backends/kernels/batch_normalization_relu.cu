#include "channel_last.cuh"

// Count, mean and sum of squared differences from the mean, of each channel of a pack.
struct Moments {
    float n, mean[VEC], m2[VEC];
};

// Chan, Golub and LeVeque, 1979: no cancellation, no matter how far the mean is from zero.
__device__ Moments combined(Moments a, Moments b)
{
    Moments both;
    both.n = a.n + b.n;
    float share = both.n > 0 ? b.n / both.n : 0;
    for (int k = 0; k < VEC; k++) {
        float delta = b.mean[k] - a.mean[k];
        both.mean[k] = a.mean[k] + delta * share;
        both.m2[k] = a.m2[k] + b.m2[k] + delta * delta * a.n * share;
    }
    return both;
}

// Moments of one column of packs, over every step-th row from begin to end. Differences from the
// first value are summed, since this is near the mean.
__device__ Moments moments(const Pack* __restrict__ x, int columns, int column, int begin, int end,
                           int step)
{
    Moments sums = {};
    if (begin >= end || column >= columns) return sums;
    Pack first = x[(long long)begin * columns + column];
#pragma unroll 4
    for (int row = begin; row < end; row += step) {
        Pack now = x[(long long)row * columns + column];
        for (int k = 0; k < VEC; k++) {
            float d = (float)now.at[k] - (float)first.at[k];
            sums.mean[k] += d;
            sums.m2[k] += d * d;
        }
    }
    sums.n = (end - begin + step - 1) / step;
    for (int k = 0; k < VEC; k++) {
        float mean = sums.mean[k] / sums.n;
        sums.m2[k] = fmaxf(sums.m2[k] - sums.mean[k] * mean, 0);
        sums.mean[k] = (float)first.at[k] + mean;
    }
    return sums;
}

// Block (p, q) writes the moments of rows [p * chunk, (p + 1) * chunk) to partial[p].
extern "C" __global__ void statistics(const Pack* __restrict__ x, Moments* __restrict__ partial,
                                      int rows, int columns, int chunk)
{
    __shared__ Moments shared[THREADS];
    int column = column_of_thread(), index = index_in_block();
    int begin = blockIdx.x * chunk, end = min(begin + chunk, rows);
    shared[index] = moments(x, columns, column, begin + threadIdx.y, end, blockDim.y);
    combine_rows(shared, blockDim.x, blockDim.y);
    if (threadIdx.y == 0 && column < columns)
        partial[blockIdx.x * columns + column] = shared[index];
}

// One block per pack of channels. The running statistics, if not null, move towards the batch's.
extern "C" __global__ void finish_statistics(const Moments* __restrict__ partial, int parts,
                                             int columns, float* mean, float* variance,
                                             float* running_mean, float* running_variance,
                                             float decay)
{
    __shared__ Moments shared[THREADS];
    combine_parts(partial, parts, columns, shared);
    if (threadIdx.x >= VEC) return;
    Moments total = shared[0];
    int k = threadIdx.x, channel = blockIdx.x * VEC + k;
    mean[channel] = total.mean[k];
    variance[channel] = total.m2[k] / total.n;
    if (!running_mean) return;
    float unbiased = total.m2[k] / fmaxf(total.n - 1, 1);
    running_mean[channel] = decay * running_mean[channel] + (1 - decay) * total.mean[k];
    running_variance[channel] = decay * running_variance[channel] + (1 - decay) * unbiased;
}

// The parameters of one thread's channels; zeros beyond the last channel.
struct Channels {
    float mean[VEC], inverse[VEC], scale[VEC], shift[VEC];
};

__device__ Channels channels(int column, int columns, const float* gamma, const float* beta,
                             const float* mean, const float* variance, float eps)
{
    Channels here = {};
    if (column >= columns) return here;
    for (int k = 0; k < VEC; k++) {
        int channel = column * VEC + k;
        here.mean[k] = mean[channel];
        here.inverse[k] = 1 / sqrtf(variance[channel] + eps);
        here.scale[k] = gamma[channel] * here.inverse[k];
        here.shift[k] = beta[channel];
    }
    return here;
}

// The same instructions forward and backward, since the signs of the forward pass are not stored.
__device__ float before_relu(const Channels& here, int k, float x)
{
    return fmaf(x - here.mean[k], here.scale[k], here.shift[k]);
}

// RELU says whether values below zero, and their gradients, become zero.
__device__ float rectified(float v)
{
    return RELU ? fmaxf(v, 0) : v;
}

__device__ float let_through(float v, float gradient)
{
    return !RELU || v > 0 ? gradient : 0;
}

extern "C" __global__ void normalize(const Pack* __restrict__ x, const float* gamma,
                                     const float* beta, const float* mean, const float* variance,
                                     float eps, Pack* __restrict__ y, int rows, int columns)
{
    int column = column_of_thread();
    if (column >= columns) return;
    Channels here = channels(column, columns, gamma, beta, mean, variance, eps);
    int step = gridDim.x * blockDim.y;
#pragma unroll 4
    for (int row = blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += step) {
        Pack now = x[(long long)row * columns + column];
        for (int k = 0; k < VEC; k++)
            now.at[k] = (T)rectified(before_relu(here, k, (float)now.at[k]));
        y[(long long)row * columns + column] = now;
    }
}

// As `normalize`, with a residual added before ReLU.
extern "C" __global__ void normalize_and_add(const Pack* __restrict__ x,
                                             const Pack* __restrict__ residual,
                                             const float* gamma, const float* beta,
                                             const float* mean, const float* variance, float eps,
                                             Pack* __restrict__ y, int rows, int columns)
{
    int column = column_of_thread();
    if (column >= columns) return;
    Channels here = channels(column, columns, gamma, beta, mean, variance, eps);
    int step = gridDim.x * blockDim.y;
#pragma unroll 4
    for (int row = blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += step) {
        long long place = (long long)row * columns + column;
        Pack now = x[place], more = residual[place];
        for (int k = 0; k < VEC; k++)
            now.at[k] = (T)rectified(before_relu(here, k, (float)now.at[k]) + (float)more.at[k]);
        y[place] = now;
    }
}

struct Sums {
    float g[VEC], g_x_hat[VEC];
};

__device__ Sums combined(Sums a, Sums b)
{
    for (int k = 0; k < VEC; k++) {
        a.g[k] += b.g[k];
        a.g_x_hat[k] += b.g_x_hat[k];
    }
    return a;
}

// Block (p, q) writes the sums of rows [p * chunk, (p + 1) * chunk) to partial[p].
extern "C" __global__ void gradient_sums(const Pack* __restrict__ x, const Pack* __restrict__ gy,
                                         const float* gamma, const float* beta, const float* mean,
                                         const float* variance, float eps,
                                         Sums* __restrict__ partial, int rows, int columns,
                                         int chunk)
{
    __shared__ Sums shared[THREADS];
    int column = column_of_thread(), index = index_in_block();
    Channels here = channels(column, columns, gamma, beta, mean, variance, eps);
    int end = column < columns ? min((blockIdx.x + 1) * chunk, rows) : 0;
    Sums sums = {};
#pragma unroll 4
    for (int row = blockIdx.x * chunk + threadIdx.y; row < end; row += blockDim.y) {
        Pack now = x[(long long)row * columns + column], g = gy[(long long)row * columns + column];
        for (int k = 0; k < VEC; k++) {
            float value = (float)now.at[k];
            float passed = let_through(before_relu(here, k, value), (float)g.at[k]);
            sums.g[k] += passed;
            sums.g_x_hat[k] += passed * ((value - here.mean[k]) * here.inverse[k]);
        }
    }
    shared[index] = sums;
    combine_rows(shared, blockDim.x, blockDim.y);
    if (threadIdx.y == 0 && column < columns)
        partial[blockIdx.x * columns + column] = shared[index];
}

// One block per pack of channels. `factor` removes the scale factor of the gradients.
extern "C" __global__ void finish_gradient_sums(const Sums* __restrict__ partial, int parts,
                                                int columns, float* ggamma, float* gbeta,
                                                float factor)
{
    __shared__ Sums shared[THREADS];
    combine_parts(partial, parts, columns, shared);
    if (threadIdx.x >= VEC) return;
    int k = threadIdx.x, channel = blockIdx.x * VEC + k;
    ggamma[channel] = factor * shared[0].g_x_hat[k];
    gbeta[channel] = factor * shared[0].g[k];
}

// `share` is the scale factor of the gradients over the number of rows; zero if the statistics are
// constants.
extern "C" __global__ void gradient_x(const Pack* __restrict__ x, const Pack* __restrict__ gy,
                                      const float* gamma, const float* beta, const float* mean,
                                      const float* variance, float eps, const float* ggamma,
                                      const float* gbeta, float share, Pack* __restrict__ gx,
                                      int rows, int columns)
{
    int column = column_of_thread();
    if (column >= columns) return;
    Channels here = channels(column, columns, gamma, beta, mean, variance, eps);
    float of_mean[VEC], of_variance[VEC];
    for (int k = 0; k < VEC; k++) {
        of_mean[k] = share * gbeta[column * VEC + k];
        of_variance[k] = share * ggamma[column * VEC + k] * here.inverse[k];
    }
    int step = gridDim.x * blockDim.y;
#pragma unroll 4
    for (int row = blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += step) {
        Pack now = x[(long long)row * columns + column], g = gy[(long long)row * columns + column];
        for (int k = 0; k < VEC; k++) {
            float value = (float)now.at[k];
            float passed = let_through(before_relu(here, k, value), (float)g.at[k]);
            float centred = (value - here.mean[k]) * of_variance[k] + of_mean[k];
            g.at[k] = (T)(here.scale[k] * (passed - centred));
        }
        gx[(long long)row * columns + column] = g;
    }
}
