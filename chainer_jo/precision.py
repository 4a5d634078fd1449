"""The number types that a net can be computed in."""

#: ``float32`` may round the factors of a product to TF32 where a GPU has tensor cores;
#: ``strict_float32`` never does; ``bfloat16`` and ``float16`` are 16 bits wide.
PRECISIONS = ('float32', 'strict_float32', 'bfloat16', 'float16')
