// Writes x, channel-last (-, H, W, C): images (C, H, W) selected by index, scaled to [0, 1], minus
// the mean, shifted by `offset - pad` with zeros outside, and mirrored. The multiplication is not
// fused with the subtraction, so that the results are those of NumPy, bit for bit.
extern "C" __global__ void augment(const unsigned char* __restrict__ images,
                                   const float* __restrict__ mean, const int* __restrict__ index,
                                   const int* __restrict__ offsets, const bool* __restrict__ flips,
                                   float* __restrict__ x, int size, int C, int H, int W, int pad)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    int c = i % C, column = i / C % W, row = i / C / W % H, n = i / C / W / H;
    if (flips[n]) column = W - 1 - column;
    row += offsets[2 * n] - pad;
    column += offsets[2 * n + 1] - pad;
    bool inside = row >= 0 && row < H && column >= 0 && column < W;
    int place = (c * H + row) * W + column;
    float scale = 1.0 / 255;
    x[i] = inside ? __fmul_rn(images[(long long)index[n] * C * H * W + place], scale) - mean[place]
                  : 0;
}
