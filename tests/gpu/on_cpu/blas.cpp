// cuBLAS where there is no GPU: the products of matrices that Chainer's own functions ask for.
//
// Everything is column-major, as in cuBLAS. on_cpu.py adds a function that refuses for every other
// name that CuPy links.

#include <cstdint>
#include <functional>

#include "device.h"

namespace {

constexpr int SUCCESS = 0, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15;
constexpr int FLOAT = 0, DOUBLE = 1;  // types of elements

struct Handle {
    void *stream = nullptr;
    int pointer_mode = 0, math_mode = 0;
};

template <typename T>
struct Matrix {
    T *elements;
    int64_t row_step, column_step;

    Matrix(T *elements, int64_t leading, bool transposed)
        : elements(elements), row_step(transposed ? leading : 1),
          column_step(transposed ? 1 : leading) {}

    T &operator()(int64_t row, int64_t column) const {
        return elements[row * row_step + column * column_step];
    }
};

// C = alpha A B + beta C, of (rows, inner) and (inner, columns).
template <typename T>
int multiply(
    void *handle, int rows, int columns, int inner, T alpha, Matrix<const T> A, Matrix<const T> B,
    T beta, Matrix<T> C) {
    int error = submit(static_cast<Handle *>(handle)->stream, [=] {
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < columns; ++j) {
                T sum = 0;
                for (int64_t k = 0; k < inner; ++k) sum += A(i, k) * B(k, j);
                C(i, j) = alpha * sum + (beta == 0 ? 0 : beta * C(i, j));
            }
    });
    return error ? EXECUTION_FAILED : SUCCESS;
}

}  // namespace

extern "C" {

int cublasCreate_v2(void **handle) { return *handle = new Handle, SUCCESS; }
int cublasDestroy_v2(void *handle) { return delete static_cast<Handle *>(handle), SUCCESS; }
int cublasSetStream_v2(void *handle, void *stream) {
    return static_cast<Handle *>(handle)->stream = stream, SUCCESS;
}
int cublasGetPointerMode_v2(void *handle, int *mode) {
    return *mode = static_cast<Handle *>(handle)->pointer_mode, SUCCESS;
}
int cublasSetPointerMode_v2(void *handle, int mode) {
    return static_cast<Handle *>(handle)->pointer_mode = mode, SUCCESS;
}
int cublasGetMathMode(void *handle, int *mode) {
    return *mode = static_cast<Handle *>(handle)->math_mode, SUCCESS;
}
int cublasSetMathMode(void *handle, int mode) {
    return static_cast<Handle *>(handle)->math_mode = mode, SUCCESS;
}

int cublasGemmEx(
    void *handle, int transpose_A, int transpose_B, int rows, int columns, int inner,
    const void *alpha, const void *A, int A_type, int A_leading, const void *B, int B_type,
    int B_leading, const void *beta, void *C, int C_type, int C_leading, int, int) {
    if (A_type != B_type || A_type != C_type) return NOT_SUPPORTED;
    auto as = [&](auto zero) {
        using T = decltype(zero);
        return multiply<T>(
            handle, rows, columns, inner, *static_cast<const T *>(alpha),
            {static_cast<const T *>(A), A_leading, transpose_A != 0},
            {static_cast<const T *>(B), B_leading, transpose_B != 0},
            *static_cast<const T *>(beta), {static_cast<T *>(C), C_leading, false});
    };
    return A_type == FLOAT ? as(0.0f) : A_type == DOUBLE ? as(0.0) : NOT_SUPPORTED;
}

int cublasSgemm_v2(
    void *handle, int transpose_A, int transpose_B, int rows, int columns, int inner,
    const float *alpha, const float *A, int A_leading, const float *B, int B_leading,
    const float *beta, float *C, int C_leading) {
    return cublasGemmEx(
        handle, transpose_A, transpose_B, rows, columns, inner, alpha, A, FLOAT, A_leading, B, FLOAT,
        B_leading, beta, C, FLOAT, C_leading, 0, 0);
}

int cublasSgemv_v2(
    void *handle, int transposed, int rows, int columns, const float *alpha, const float *A,
    int leading, const float *x, int x_step, const float *beta, float *y, int y_step) {
    int m = transposed ? columns : rows, n = transposed ? rows : columns;
    return multiply<float>(
        handle, m, 1, n, *alpha, {A, leading, transposed != 0}, {x, x_step, true}, *beta,
        {y, y_step, true});
}

}  // extern "C"
