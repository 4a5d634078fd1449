#include "channel_last.cuh"

// The position in the window of each result of a pack: row times k plus column.
struct alignas(VEC) Places {
    unsigned char at[VEC];
};

// Writes the maximum of each window of x (-, H, W, columns) to y (-, OH, OW, columns), and its
// first position to `places`. Positions outside x are skipped.
extern "C" __global__ void max_pooling(const Pack* __restrict__ x, Pack* __restrict__ y,
                                       Places* __restrict__ places, int packs, int H, int W,
                                       int OH, int OW, int columns, int k, int stride, int pad)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= packs) return;
    int column = i % columns, ow = i / columns % OW, oh = i / columns / OW % OH;
    int n = i / columns / OW / OH;
    float best[VEC];
    Places found = {};
    bool first = true;
    for (int place = 0; place < k * k; place++) {
        int h = oh * stride - pad + place / k, w = ow * stride - pad + place % k;
        if (h < 0 || h >= H || w < 0 || w >= W) continue;
        Pack now = x[(((long long)n * H + h) * W + w) * columns + column];
        for (int c = 0; c < VEC; c++) {
            float value = (float)now.at[c];
            if (!first && value <= best[c]) continue;
            best[c] = value;
            found.at[c] = place;
        }
        first = false;
    }
    Pack result;
    for (int c = 0; c < VEC; c++) result.at[c] = (T)best[c];
    y[i] = result;
    places[i] = found;
}

// Each element of x collects the gradients of the windows whose maximum it is. So no two threads
// add to one element, and the order of the sum never changes.
extern "C" __global__ void gradient_x(const Pack* __restrict__ gy,
                                      const Places* __restrict__ places, Pack* __restrict__ gx,
                                      int packs, int H, int W, int OH, int OW, int columns, int k,
                                      int stride, int pad)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= packs) return;
    int column = i % columns, w = i / columns % W + pad, h = i / columns / W % H + pad;
    int n = i / columns / W / H;
    float sum[VEC] = {};
    for (int oh = max(0, (h - k + stride) / stride); oh < OH && oh * stride <= h; oh++)
        for (int ow = max(0, (w - k + stride) / stride); ow < OW && ow * stride <= w; ow++) {
            long long window = (((long long)n * OH + oh) * OW + ow) * columns + column;
            Places found = places[window];
            Pack g = gy[window];
            int place = (h - oh * stride) * k + w - ow * stride;
            for (int c = 0; c < VEC; c++)
                if (found.at[c] == place) sum[c] += (float)g.at[c];
        }
    Pack result;
    for (int c = 0; c < VEC; c++) result.at[c] = (T)sum[c];
    gx[i] = result;
}
