import chainer
import numpy as np
import pytest

from chainer_jo.functions.product import product


class NotForBLAS(np.ndarray):
    """Stands for an array of CuPy."""


@pytest.mark.parametrize('transposed', [False, True])
@pytest.mark.parametrize('kind', [np.ndarray, NotForBLAS])
def test_the_product_and_its_gradients_are_those_of_loops(kind, transposed):
    rng = np.random.default_rng(0)
    y, M, g = (rng.normal(size=(n, 4)) for n in (5, 4, 5))
    variables = [chainer.Variable(array.view(kind)) for array in (y, M)]
    result = product(*variables, transposed)
    result.grad = g
    result.backward()
    expected, at_y, at_M = np.zeros_like(y), np.zeros_like(y), np.zeros_like(M)
    for i, j, k in np.ndindex(5, 4, 4):
        a, b = (j, k) if transposed else (k, j)
        expected[i, j] += y[i, k] * M[a, b]
        at_y[i, k] += g[i, j] * M[a, b]
        at_M[a, b] += g[i, j] * y[i, k]
    np.testing.assert_allclose(result.array, expected)
    np.testing.assert_allclose(variables[0].grad, at_y)
    np.testing.assert_allclose(variables[1].grad, at_M)


def test_the_product_of_one_hot_rows_is_a_row_of_the_matrix_to_the_last_bit():
    M = np.random.default_rng(0).normal(size=(4, 4)).astype('f')
    classes = [2, 0, 3, 2, 1]
    y = np.eye(4, dtype='f')[classes]
    for kind in (np.ndarray, NotForBLAS):
        np.testing.assert_array_equal(product(y, M.view(kind)).array, M[classes])
        np.testing.assert_array_equal(product(y, M.view(kind), True).array, M.T[classes])
