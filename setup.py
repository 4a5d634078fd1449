"""Installs chainer_jo; ``bash reproduce/setup.sh`` calls it with the constraint Chainer needs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

source = Path(__file__).parent / 'chainer_jo' / 'version.py'
version = re.search(r"^__version__ = '(.+)'$", source.read_text(), re.MULTILINE).group(1)

# [ctk] brings CUDA's own libraries: without them Chainer would silently use the CPU.
cuda = {
    f'cuda{major}': [
        f'cupy-cuda{major}x[ctk]>=14',
        f'nvidia-cudnn-cu{major}>=9',
        'nvidia-cudnn-frontend==1.23.0',
    ]
    for major in (12, 13)
}

fast_jpeg = ['cykooz_resizer>=4', 'simplejpeg>=1.9']

setup(
    name='chainer_jo',
    version=version,
    description='Learning with noisy labels: mix-up with KL entropy (arXiv 1908.05488), in Chainer',
    license='MIT',
    packages=find_packages(include=['chainer_jo', 'chainer_jo.*']),
    package_data={
        'chainer_jo': [
            f'**/*{end}'
            for end in (
                '.toml',
                '.csv',
                '.json',
                '.md',
                '.html',
                '.css',
                '.npz',
                '.cu',
                '.cuh',
                'LICENSE*',
            )
        ]
    },
    entry_points={'console_scripts': ['chainer-jo = chainer_jo.cli:main']},
    python_requires='>=3.11',
    install_requires=[
        'chainer==7.8.1',
        'filelock>=3.32',
        'jinja2',
        'markdown-it-py',
        'matplotlib',
        'numpy>=1.26',
        'pillow',
        'pooch',
        'rich',
        'scipy>=1.15',
        'threadpoolctl',
    ],
    extras_require={
        **cuda,
        'cpu': [
            'onednn-cpu-gomp==2023.2.0; sys_platform == "linux" and platform_machine == "x86_64"'
        ],
        # Looks at the reports in a Chromium, for their tests.
        'browser': ['playwright>=1.45'],
        # bokeh draws the scheduler's dashboard.
        'dask': ['bokeh>=3.1', 'distributed>=2026.8'],
        # An MPI from a wheel, with the mpiexec that belongs to it.
        'mpi': [f'{name}; sys_platform != "win32"' for name in ('mpi4py>=4.1', 'mpich>=5')],
        'tensorboard': ['tensorboardX>=2.6'],
        # A faster decoder and resizer of JPEGs: two small wheels, no more behind them.
        'turbojpeg': fast_jpeg,
        'dev': [
            'hypothesis',
            'pytest',
            'pytest-xdist',
            'ruff==0.17.6',
            'tensorboardX>=2.6',
            *fast_jpeg,
        ],
    },
)
