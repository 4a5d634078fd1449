"""The precisions in which a net can be computed."""

#: ``float32`` may round the factors of matrix products to TF32 on a GPU with tensor cores;
#: ``strict_float32`` never does; ``bfloat16`` and ``float16`` have 16 bits.
PRECISIONS = ('float32', 'strict_float32', 'bfloat16', 'float16')
