// Enough of CUDA C to run a kernel on the CPU: a fiber is a thread of a block.
#include <cmath>
#include <functional>
#include <type_traits>
#include <ucontext.h>
#include <utility>

#define __global__
#define __device__ static
#define __shared__ static

struct dim3 {
    unsigned x, y, z;
};

static dim3 gridDim, blockDim, blockIdx, threadIdx;

template <class A, class B>
static std::common_type_t<A, B> min(A a, B b)
{
    return a < b ? a : b;
}

template <class A, class B>
static std::common_type_t<A, B> max(A a, B b)
{
    return a < b ? b : a;
}

static float __fmul_rn(float a, float b)
{
    return a * b;
}

static const unsigned MOST_THREADS = 1024, STACK = 1 << 16;
static ucontext_t scheduler, fibers[MOST_THREADS];
static char stacks[MOST_THREADS][STACK];
static bool done[MOST_THREADS];
static unsigned current;
static std::function<void()> body;

static void enter()
{
    body();
    done[current] = true;
}

static void __syncthreads()
{
    swapcontext(&fibers[current], &scheduler);
}

static void start(unsigned i)
{
    done[i] = false;
    getcontext(&fibers[i]);
    fibers[i].uc_stack.ss_sp = stacks[i];
    fibers[i].uc_stack.ss_size = STACK;
    fibers[i].uc_link = &scheduler;
    makecontext(&fibers[i], enter, 0);
}

// Returns whether the thread has not come to its end.
static bool resume(unsigned i)
{
    current = i;
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    swapcontext(&scheduler, &fibers[i]);
    return !done[i];
}

// Between two barriers the threads run one by one, upwards and downwards in turn: a kernel in which
// one depends on another without a barrier gives other results.
static void run_block()
{
    unsigned count = blockDim.x * blockDim.y * blockDim.z, alive = count;
    for (unsigned i = 0; i < count; i++) start(i);
    for (bool up = true; alive; up = !up) {
        alive = 0;
        for (unsigned j = 0; j < count; j++) {
            unsigned i = up ? j : count - 1 - j;
            if (!done[i]) alive += resume(i);
        }
    }
}

template <class... A, std::size_t... I>
static void launch(void (*kernel)(A...), const dim3* grid, const dim3* block, void** arguments,
                   std::index_sequence<I...>)
{
    body = [=] { kernel(*(std::remove_cv_t<A>*)arguments[I]...); };
    gridDim = *grid;
    blockDim = *block;
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) run_block();
}

template <class... A>
static void launch(void (*kernel)(A...), const dim3* grid, const dim3* block, void** arguments)
{
    launch(kernel, grid, block, arguments, std::index_sequence_for<A...>());
}

#define LAUNCHER(entry)                                                                      \
    extern "C" void launch_##entry(const dim3* grid, const dim3* block, void** arguments)    \
    {                                                                                        \
        launch(entry, grid, block, arguments);                                               \
    }
