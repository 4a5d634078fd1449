"""A training step that is captured once as a CUDA graph and launched as a whole from then on.

A step has hundreds of kernels, and Python takes longer to launch them one by one than the GPU takes
to run them.
"""

import contextlib

from chainer_jo.errors import ConfigError

# The first run compiles kernels and selects plans, the later ones fill the memory pool.
WARM_UP = 3


class CudaGraph:
    """Runs a step: the first call captures it, and every call launches the captured graph.

    The step must neither wait for the GPU nor copy from or to the host. Before the capture it is
    run a few times as a warm-up; then ``state`` is restored in place.

    Args:
        step (callable): Takes and returns nothing; reads and writes the same arrays every time.
        state (callable): Returns all CuPy arrays that the step changes, except those that it
            overwrites before it reads them.

    Attributes:
        graph (cupy.cuda.Graph): The captured graph; None before the first call.
        pool (cupy.cuda.MemoryPool): The memory of the graph; None before the first call.

    Raises:
        ConfigError: At the first call, if CuPy or CUDA refuses to capture the step.
    """

    def __init__(self, step, state):
        self._step, self._state = step, state
        self.graph = self.pool = None

    def __call__(self):
        if self.graph is None:
            self.graph = self._prepare()
        # On the current stream, and so after all earlier work on the arrays there.
        self.graph.launch()

    def _prepare(self):
        import cupy

        # The graph contains the addresses of its arrays, so this memory must not be reused.
        self.pool = cupy.cuda.MemoryPool()
        # CUDA refuses to capture its default stream.
        stream = cupy.cuda.Stream(non_blocking=True)
        saved = [(array, array.copy()) for array in self._state()]
        # The new stream does not wait for the old one, which makes the copies.
        cupy.cuda.get_current_stream().synchronize()
        with stream, cupy.cuda.using_allocator(self.pool.malloc):
            for _ in range(WARM_UP):
                self._step()
            # The warm-up must not count as training, so its changes are undone.
            for array, before in saved:
                array[...] = before
            stream.synchronize()
            try:
                return self._capture(stream)
            # CuPy's NotImplementedError and CUDARuntimeError are RuntimeErrors, too.
            except RuntimeError as error:
                raise ConfigError(
                    'a training step cannot be captured as a CUDA graph',
                    seen=f'{type(error).__name__}: {error}',
                    fix='choose {setting}, which is slower and gives the same results',
                    setting=('graph', False),
                ) from error

    def _capture(self, stream):
        stream.begin_capture()
        try:
            self._step()
        except BaseException:
            # A failed capture still has to be ended, which raises an error as well.
            with contextlib.suppress(RuntimeError):
                stream.end_capture()
            raise
        return stream.end_capture()
