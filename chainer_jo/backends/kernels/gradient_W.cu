// The gradient of the weights of a 3x3 convolution with stride 1 and a padding of one pixel, on
// tensor cores: a matrix product over all pixels for each of the nine positions in the window.
// cuDNN's deterministic kernels take several times as long with few channels and many pixels.
//
// All arrays are channel-last. A block of nine warps, one for each position, computes TILE x TILE
// channels over some rows of images; `sum_parts` adds the results of the blocks in a fixed order.
// HALF selects the type, WIDTH is the width of an image, ROWS the number of rows in a step.
#define TILE 32
#if HALF
#include <cuda_fp16.h>
typedef __half T;
#define DEPTH 16 // Pixels per instruction.
#else
typedef float T;
#define DEPTH 8
#endif

// In shared memory images have a border, and the rows of gradients have an equally wide gap of
// zeros, so that a shift of the window is one offset for all pixels.
#define PITCH (WIDTH + 2)
#define PIXELS ((ROWS * PITCH + DEPTH - 1) / DEPTH * DEPTH)
#define BORDERED (PIXELS + 2 * PITCH + 2)
// Rows of 32-bit words start 8 banks apart, and 16-byte rows of halves share no bank: in both cases
// a warp reads without bank conflicts.
#define STRIDE (TILE + 8)
#define PACK (16 / (int)sizeof(T))

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define TENSOR_CORES 1
#else
#define TENSOR_CORES 0
#endif

struct alignas(16) Pack {
    T at[PACK];
};

// Copies 16 bytes, or zeros, to shared memory; on a GPU the copy is asynchronous.
__device__ void fetch(T* shared, const T* source, bool inside)
{
#if TENSOR_CORES
    unsigned place = (unsigned)__cvta_generic_to_shared(shared);
    int bytes = inside ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(source), "r"(bytes));
#else
    *(Pack*)shared = inside ? *(const Pack*)source : Pack{};
#endif
}

__device__ void end_of_fetches()
{
#if TENSOR_CORES
    asm volatile("cp.async.commit_group;");
#endif
}

// Waits for all fetches of this thread except the `left` newest groups.
template <int left>
__device__ void wait_for_fetches()
{
#if TENSOR_CORES
    asm volatile("cp.async.wait_group %0;" ::"n"(left));
#endif
}

// Starts to copy rows [row, row + ROWS) of image n: gy as it is, x with one more row on each side.
__device__ void fetch_rows(T* shared_gy, T* shared_x, const T* gy, const T* x, int n, int row,
                           int H, int I, int O)
{
    const int packs = TILE / PACK;
    for (int i = threadIdx.x; i < (PIXELS + BORDERED) * packs; i += blockDim.x) {
        int channel = i % packs * PACK, pixel = i / packs;
        bool of_gy = pixel < PIXELS;
        if (!of_gy) pixel -= PIXELS;
        int border = of_gy ? 0 : 1, C = of_gy ? O : I;
        int y = row + pixel / PITCH - border, column = pixel % PITCH - border;
        bool inside = y >= 0 && y < H && column >= 0 && column < WIDTH &&
                      pixel / PITCH < ROWS + 2 * border;
        long long place = inside ? (((long long)n * H + y) * WIDTH + column) * C + channel : 0;
        fetch((of_gy ? shared_gy : shared_x) + pixel * STRIDE + channel, (of_gy ? gy : x) + place,
              inside);
    }
    end_of_fetches();
}

#if TENSOR_CORES
__device__ void load_transposed(unsigned* to, const T* from)
{
    unsigned place = (unsigned)__cvta_generic_to_shared(from);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(place));
}

__device__ unsigned rounded(float value)
{
    unsigned tf32;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(tf32) : "f"(value));
    return tf32;
}
#endif

// Adds the products of DEPTH pixels to a warp's sums[m][n][...]: gy (DEPTH, TILE) transposed times
// x (DEPTH, TILE). Of each 16 x 8 part a thread holds the four numbers that the instruction
// assigns to it.
__device__ void multiply(float (*sums)[4][4], const T* gy, const T* x)
{
    int lane = threadIdx.x % 32;
#if TENSOR_CORES && HALF
    unsigned a[2][4], b[2][4];
    int matrix = lane / 8, line = lane % 8;
    for (int m = 0; m < 2; m++)
        load_transposed(a[m], gy + (line + matrix / 2 * 8) * STRIDE + m * 16 + matrix % 2 * 8);
    for (int n = 0; n < 2; n++)
        load_transposed(b[n], x + (line + matrix % 2 * 8) * STRIDE + n * 16 + matrix / 2 * 8);
    for (int m = 0; m < 2; m++)
        for (int n = 0; n < 4; n++) {
            float* c = sums[m][n];
            asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                         "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                         : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                         : "r"(a[m][0]), "r"(a[m][1]), "r"(a[m][2]), "r"(a[m][3]),
                           "r"(b[n / 2][n % 2 * 2]), "r"(b[n / 2][n % 2 * 2 + 1]));
        }
#elif TENSOR_CORES
    unsigned a[2][4], b[4][2];
    int group = lane / 4, in_group = lane % 4;
    for (int m = 0; m < 2; m++)
        for (int k = 0; k < 4; k++)
            a[m][k] = rounded(gy[(in_group + k / 2 * 4) * STRIDE + m * 16 + group + k % 2 * 8]);
    for (int n = 0; n < 4; n++)
        for (int k = 0; k < 2; k++)
            b[n][k] = rounded(x[(in_group + k * 4) * STRIDE + n * 8 + group]);
    for (int m = 0; m < 2; m++)
        for (int n = 0; n < 4; n++) {
            float* c = sums[m][n];
            asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                         "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                         : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                         : "r"(a[m][0]), "r"(a[m][1]), "r"(a[m][2]), "r"(a[m][3]), "r"(b[n][0]),
                           "r"(b[n][1]));
        }
#else
    int group = lane / 4, in_group = lane % 4;
    for (int m = 0; m < 2; m++)
        for (int n = 0; n < 4; n++)
            for (int k = 0; k < 4; k++)
                for (int pixel = 0; pixel < DEPTH; pixel++)
                    sums[m][n][k] += (float)gy[pixel * STRIDE + m * 16 + group + k / 2 * 8] *
                                     (float)x[pixel * STRIDE + n * 8 + in_group * 2 + k % 2];
#endif
}

// Block (s, o, i) writes to parts[s], (O, 3, 3, I), the sums over the s-th `steps` groups of rows,
// for the o-th TILE channels of gy (N, H, WIDTH, O) and the i-th TILE channels of x
// (N, H, WIDTH, I).
extern "C" __global__ void gradient_W(const T* __restrict__ x, const T* __restrict__ gy,
                                      float* __restrict__ parts, int N, int H, int I, int O,
                                      int steps)
{
    extern __shared__ float4 shared[];
    T* buffers = (T*)shared;
    const int size = (PIXELS + BORDERED) * STRIDE;
    x += blockIdx.z * TILE;
    gy += blockIdx.y * TILE;
    int warp = threadIdx.x / 32, shift = warp / 3 * PITCH + warp % 3;
    int groups = H / ROWS, begin = blockIdx.x * steps, end = min(begin + steps, N * groups);
    float sums[2][4][4] = {};
    if (begin < end)
        fetch_rows(buffers, buffers + PIXELS * STRIDE, gy, x, begin / groups,
                   begin % groups * ROWS, H, I, O);
    for (int step = begin; step < end; step++) {
        T* now = buffers + (step - begin) % 2 * size;
        if (step + 1 < end) {
            T* next = buffers + (step + 1 - begin) % 2 * size;
            fetch_rows(next, next + PIXELS * STRIDE, gy, x, (step + 1) / groups,
                       (step + 1) % groups * ROWS, H, I, O);
            wait_for_fetches<1>();
        } else
            wait_for_fetches<0>();
        __syncthreads();
        const T* moved = now + (PIXELS + shift) * STRIDE;
#pragma unroll 2
        for (int pixel = 0; pixel < PIXELS; pixel += DEPTH)
            multiply(sums, now + pixel * STRIDE, moved + pixel * STRIDE);
        __syncthreads();
    }
    int lane = threadIdx.x % 32;
    float* part = parts + (long long)blockIdx.x * O * 9 * I;
    for (int m = 0; m < 2; m++)
        for (int n = 0; n < 4; n++)
            for (int k = 0; k < 4; k++) {
                int o = blockIdx.y * TILE + m * 16 + lane / 4 + k / 2 * 8;
                int i = blockIdx.z * TILE + n * 8 + lane % 4 * 2 + k % 2;
                part[((long long)o * 9 + warp) * I + i] = sums[m][n][k];
            }
}

// gW[i] is `factor` times the sum of parts[...][i]; a block sums 32 packs of four numbers.
extern "C" __global__ void sum_parts(const float4* __restrict__ parts, float4* __restrict__ gW,
                                     int count, int packs, float factor)
{
    __shared__ float4 lines[8][32];
    int pack = blockIdx.x * 32 + threadIdx.x, line = threadIdx.y;
    float4 sum = {0, 0, 0, 0};
    if (pack < packs) {
#pragma unroll 4
        for (int s = line; s < count; s += 8) {
            float4 part = parts[(long long)s * packs + pack];
            sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
        }
    }
    lines[line][threadIdx.x] = sum;
    __syncthreads();
    if (line || pack >= packs) return;
    for (int i = 1; i < 8; i++) {
        float4 other = lines[i][threadIdx.x];
        sum.x += other.x, sum.y += other.y, sum.z += other.z, sum.w += other.w;
    }
    gW[pack] = {factor * sum.x, factor * sum.y, factor * sum.z, factor * sum.w};
}
