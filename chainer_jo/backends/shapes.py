"""Shapes that every backend agrees on."""


def output_shape(x_shape, W_shape, stride, pad, cover_all=False):
    """Returns the output shape ``(N, O, H', W')`` of a convolution or of pooling.

    Args:
        x_shape (tuple): ``(N, I, H, W)``.
        W_shape (tuple): ``(O, I, kh, kw)``.
        stride, pad (int): The same for height and width.
        cover_all (bool): Whether to add a window that reaches beyond the image, to cover rows and
            columns at its end that would be left out otherwise.
    """
    more = stride - 1 if cover_all else 0
    height, width = (
        (s + 2 * pad - k + more) // stride + 1
        for s, k in zip(x_shape[2:], W_shape[2:], strict=True)
    )
    return x_shape[0], W_shape[0], height, width
