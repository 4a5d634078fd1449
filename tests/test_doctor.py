"""What ``doctor`` says of MPI, and of a GPU on machines that have none."""

import importlib.util
import sys

import mpi
import pytest

from chainer_jo import doctor
from chainer_jo.training import device, mpiexec

without_gpu = pytest.mark.skipif(
    not device.describe().startswith('none: '), reason='here is a GPU: see tests/gpu'
)


@without_gpu
def test_without_an_nvidia_driver_nothing_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert 'to mend' not in doctor.examine('auto', 'auto')


@without_gpu
def test_beside_an_nvidia_driver_it_says_why_there_is_no_gpu_and_the_command(monkeypatch, tmp_path):
    (tmp_path / 'nvidia-smi').touch(mode=0o755)
    monkeypatch.setenv('PATH', str(tmp_path))
    findings = doctor.examine('auto', 'auto')
    assert findings['to mend'].startswith(device.describe().removeprefix('none: '))
    assert 'bash reproduce/setup.sh' in findings['to mend']
    (line,) = [line for line in doctor.as_text(findings).splitlines() if 'to mend' in line]
    assert line.endswith(findings['to mend'])


@without_gpu
def test_every_package_that_a_gpu_needs_has_its_line():
    findings = doctor.examine('cpu', 'auto')
    for name in ('cupy-cuda13x', 'nvidia-cudnn-cu13', 'nvidia-cudnn-frontend', 'cuda', 'gpu'):
        assert name in findings


def test_it_says_what_a_file_of_weights_is_and_what_is_missing(tmp_path):
    wrong = tmp_path / 'resnet50.pth'
    wrong.write_bytes(b'no weights')
    said = {path: doctor.examine('cpu', 'auto', weights=path)['weights'] for path in (None, wrong)}
    assert '--weights' in said[None]
    assert str(wrong) in said[wrong]
    assert 'resnet50-0676ba61.pth' in said[wrong]


@mpi.NEEDED
def test_it_names_the_mpi_whose_processes_find_each_other():
    assert mpiexec.describe().endswith(f', by {mpi.MPIEXEC}')


def test_it_says_why_mpi_does_not_work(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'executable', str(tmp_path / 'python'))
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
    assert 'no mpiexec was found' in mpiexec.describe()
    # One of another MPI starts processes each of which is alone.
    (tmp_path / 'mpiexec').write_text('#!/bin/sh\necho 1 MPI; echo 1 MPI')
    (tmp_path / 'mpiexec').chmod(0o755)
    assert 'do not find each other: 1 MPI 1 MPI' in mpiexec.describe()
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert mpiexec.describe() is None
