"""Shapes that every backend agrees on."""


def output_shape(x_shape, W_shape, stride, pad, cover_all=False):
    """Returns the shape ``(N, O, H', W')`` of the result of a convolution, or of pooling.

    Args:
        x_shape (tuple): ``(N, I, H, W)``.
        W_shape (tuple): ``(O, I, kh, kw)``.
        stride, pad (int): The same both ways.
        cover_all (bool): False leaves out what is left of the image at its end; True adds a window
            that reaches beyond it.
    """
    more = stride - 1 if cover_all else 0
    height, width = (
        (s + 2 * pad - k + more) // stride + 1
        for s, k in zip(x_shape[2:], W_shape[2:], strict=True)
    )
    return x_shape[0], W_shape[0], height, width
