// Enough of CUDA C to run a kernel on the CPU: a fiber is a thread of a block.
//
// BARRIERS says whether threads of the kernel wait for each other; if not, each runs to its end.
#pragma once
#include <math.h>
#include <stddef.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>

#if __has_include(<vector_types.h>)
#include <vector_types.h>
#else
struct dim3 {
    unsigned x, y, z;
};
using uint3 = dim3;
#endif

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__

static dim3 gridDim, blockDim;
static uint3 blockIdx, threadIdx;

// ------------------------------------------------------------------------------ Fibers, barriers

// Keeps the registers that a call keeps, and goes on with another stack. swapcontext() would do,
// and ask the kernel each time.
extern "C" void switch_stack(void **from, void *to);
asm(R"(
.text
.local switch_stack
.type switch_stack, @function
switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

static const unsigned MOST_THREADS = 1024, STACK = 1 << 16, KEPT_REGISTERS = 6;
static void *scheduler, *fibers[MOST_THREADS];
alignas(16) static char stacks[BARRIERS ? MOST_THREADS : 1][STACK];
static bool done[MOST_THREADS], at_barrier[MOST_THREADS];
static unsigned current;
static std::function<void()> body;

// Lets every other thread that is at no barrier come as far.
static void __syncwarp(unsigned = 0) { switch_stack(&fibers[current], scheduler); }

static void __syncthreads() {
    at_barrier[current] = true;
    __syncwarp();
}

static void enter() {
    body();
    done[current] = true;
    __syncwarp();
}

static void place(unsigned i) {
    current = i;
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
}

static void begin(unsigned i) {
    done[i] = at_barrier[i] = false;
    auto top = reinterpret_cast<void **>(stacks[i] + STACK) - 2;
    *top = reinterpret_cast<void *>(enter);
    fibers[i] = top - KEPT_REGISTERS;
}

// Between two barriers the threads run one by one, upwards and downwards in turn: a kernel in which
// one depends on another without a barrier gives other results.
static void run_block(unsigned count) {
    for (unsigned i = 0; i < count; ++i) begin(i);
    bool up = true, alive = true;
    while (alive) {
        bool ran = alive = false;
        for (unsigned j = 0; j < count; ++j) {
            unsigned i = up ? j : count - 1 - j;
            if (done[i] || at_barrier[i]) continue;
            ran = alive = true;
            place(i);
            switch_stack(&scheduler, fibers[i]);
        }
        if (ran) continue;
        up = !up;
        for (unsigned i = 0; i < count; ++i) {
            at_barrier[i] = false;
            alive |= !done[i];
        }
    }
}

template <class... A, size_t... I>
static void launch(
    void (*kernel)(A...), const unsigned *grid, const unsigned *block, void **arguments,
    std::index_sequence<I...>) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    unsigned count = block[0] * block[1] * block[2];
    auto run = [=] { kernel(*static_cast<std::remove_cv_t<A> *>(arguments[I])...); };
    body = run;
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
                if (BARRIERS)
                    run_block(count);
                else
                    for (unsigned i = count; i--;) place(i), run();
}

template <class... A>
static void launch(
    void (*kernel)(A...), const unsigned *grid, const unsigned *block, void **arguments) {
    launch(kernel, grid, block, arguments, std::index_sequence_for<A...>());
}

template <class... A>
static std::array<size_t, sizeof...(A) + 1> sizes_of(void (*)(A...)) {
    return {sizeof(A)..., 0};
}

#define LAUNCHER(name, entry)                                                          \
    extern "C" {                                                                       \
    const auto sizes_of_##name = sizes_of(entry);                                      \
    extern const size_t *const sizes_##name = sizes_of_##name.data();                  \
    void launch_##name(const unsigned *grid, const unsigned *block, void **arguments) { \
        launch(entry, grid, block, arguments);                                         \
    }                                                                                  \
    }

// ------------------------------------------------------------------------------------- Functions

template <class A, class B>
static std::common_type_t<A, B> min(A a, B b) {
    return a < b ? a : b;
}

template <class A, class B>
static std::common_type_t<A, B> max(A a, B b) {
    return a < b ? b : a;
}

template <class To, class From>
static To bits_of(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

static int __float_as_int(float x) { return bits_of<int>(x); }
static float __int_as_float(int x) { return bits_of<float>(x); }
static long long __double_as_longlong(double x) { return bits_of<long long>(x); }
static double __longlong_as_double(long long x) { return bits_of<double>(x); }
static float __fmul_rn(float a, float b) { return a * b; }
static float rsqrtf(float x) { return 1 / sqrtf(x); }
static double rsqrt(double x) { return 1 / sqrt(x); }
static int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static int __popc(unsigned x) { return __builtin_popcount(x); }
static int __popcll(unsigned long long x) { return __builtin_popcountll(x); }

// Only one thread runs at a time.
template <class T, class U>
static T atomicCAS(T *place, U expected, U wanted) {
    T old = *place;
    if (old == static_cast<T>(expected)) *place = wanted;
    return old;
}

template <class T>
static T atomicAdd(T *place, T more) {
    T old = *place;
    *place = old + more;
    return old;
}
