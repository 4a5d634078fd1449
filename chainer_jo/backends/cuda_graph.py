"""A training step recorded once as a CUDA graph and launched as a whole from then on.

A step is hundreds of kernels. Launching them one by one takes Python longer than they take the GPU.
"""

import contextlib

from chainer_jo.errors import ConfigError

# The first run compiles kernels and finds plans, the later ones fill the memory pool.
WARM_UP = 3


class CudaGraph:
    """Calls a step: the first call captures it, and every call launches what was captured.

    The step must neither wait for the GPU nor copy from or to the host. It is run a few times
    before, and ``state`` is put back in place after that.

    Args:
        step (callable): Takes and returns nothing; reads and writes the same arrays every time.
        state (callable): Returns all arrays of CuPy that the step changes and does not overwrite
            before it reads them.

    Attributes:
        graph (cupy.cuda.Graph): What was captured; None before the first call.
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
        # On the current stream, so after everything the arrays wait for there.
        self.graph.launch()

    def _prepare(self):
        import cupy

        # The graph keeps the addresses of its arrays, so nobody else may get that memory.
        self.pool = cupy.cuda.MemoryPool()
        # CUDA refuses to capture its default stream.
        stream = cupy.cuda.Stream(non_blocking=True)
        saved = [(array, array.copy()) for array in self._state()]
        # The new stream does not wait for the old one, on which the copies are made.
        cupy.cuda.get_current_stream().synchronize()
        with stream, cupy.cuda.using_allocator(self.pool.malloc):
            for _ in range(WARM_UP):
                self._step()
            # The warm-up must not count as training: its changes are undone.
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
            # A failed capture still has to be ended, and ending it raises as well.
            with contextlib.suppress(RuntimeError):
                stream.end_capture()
            raise
        return stream.end_capture()
