"""Read by every Python that has this folder in PYTHONPATH: it gets the CPU for a GPU."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import on_cpu

on_cpu.install(Path(os.environ['CUDA_ON_CPU']))
