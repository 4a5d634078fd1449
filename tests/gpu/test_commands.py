"""The commands on a GPU: killed and called again, refused, and beside the CPU."""

import json
import signal
import subprocess
import sys
import time

import chainer
import gpu
import numpy as np
import pytest
import tiny
from PIL import Image

from chainer_jo import backends, doctor, store
from chainer_jo.errors import ConfigError, OutOfMemoryError
from chainer_jo.training import device, trial

PATIENCE = 120
LONG = gpu.config('cross_entropy', 'cross_entropy.train.epochs=40')


def command(config, out, *more):
    words = tiny.words(config, out, '--device', 'cuda:0', '--snapshot-seconds', '0.2', *more)
    return [sys.executable, '-m', 'chainer_jo', *words]


def call(*words):
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """What a run without a break leaves behind."""
    out = tmp_path_factory.mktemp('whole')
    done = call(*command(LONG, out))
    assert done.returncode == 0, done.stderr
    return tiny.outcome(LONG, out)


@pytest.mark.parametrize(
    ('signum', 'code'), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)], ids=['kill -9', 'SIGTERM']
)
def test_a_stopped_trial_goes_on_and_ends_the_same_bit_for_bit(signum, code, whole, tmp_path):
    process = subprocess.Popen(command(LONG, tmp_path), stderr=subprocess.DEVNULL)
    end = time.monotonic() + PATIENCE
    while not list(tmp_path.glob('runs/*/snapshot-*')) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signum)
    assert process.wait(PATIENCE) == code
    done = call(*command(LONG, tmp_path))
    assert done.returncode == 0, done.stderr
    result = store.read_sealed(tiny.folder(LONG, tmp_path) / 'result.json')
    assert result['times']['resumes'] == 1
    assert result['environment']['device'] == '@cupy:0'
    assert result['environment']['graph'] is True
    assert result['environment']['gpu'] in device.describe()
    assert tiny.outcome(LONG, tmp_path) == whole


def test_the_first_epoch_on_the_gpu_is_that_of_the_cpu(tmp_path):
    config, rows = gpu.config('ours', precision='strict_float32'), []
    for name in ('cpu', 'cuda:0'):
        out = tmp_path / name[:3]
        trial.run(config, gpu.machine(out, device=name), tiny.SILENT)
        log = (tiny.folder(config, out) / 'log.jsonl').read_text()
        rows.append(json.loads(log.splitlines()[0]))
    assert rows[1]['main/loss'] == pytest.approx(rows[0]['main/loss'], rel=1e-2)
    assert rows[1]['main/accuracy'] == pytest.approx(rows[0]['main/accuracy'], abs=0.03)
    assert rows[1]['label_accuracy'] == rows[0]['label_accuracy']


def test_doctor_names_the_gpu_its_backend_and_every_version():
    findings = doctor.examine('cuda:0', 'auto')
    assert findings['device'] == 'cuda:0'
    assert 'cuDNN 9' in findings['backend']
    assert not findings['gpu'].startswith('none')
    assert 'to mend' not in findings


def test_a_gpu_that_is_not_there_is_an_error_and_no_run_on_the_cpu():
    with pytest.raises(ConfigError, match='cuda:99 cannot be used') as raised:
        device.choose('cuda:99', 'auto')
    assert 'GPU(s), numbered from 0' in raised.value.seen


def test_memory_that_is_full_is_an_error_that_names_the_way_out(tmp_path):
    config = gpu.config('cross_entropy', 'common.train_images=4000')
    pool = chainer.get_device(gpu.DEVICE).xp.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.total_bytes() + 2**20)
    try:
        with pytest.raises(OutOfMemoryError, match='the memory of the GPU is full') as raised:
            trial.run(config, gpu.machine(tmp_path), tiny.SILENT)
    finally:
        pool.set_limit(size=0)
    assert 'fewer --jobs' in raised.value.fix
    assert trial.run(config, gpu.machine(tmp_path), tiny.SILENT)['epochs'] == 3


def test_a_precision_that_no_gpu_has_is_refused():
    with pytest.raises(ConfigError, match='bfloat16 cannot be used here'):
        backends.check_precision('bfloat16', backends.name_on(device.choose('cuda:0', 'auto')))


def test_trials_side_by_side_on_one_gpu_are_those_that_run_alone(whole, tmp_path):
    processes = [
        subprocess.Popen(command(LONG, tmp_path / name), stderr=subprocess.DEVNULL)
        for name in ('a', 'b')
    ]
    assert [process.wait(PATIENCE) for process in processes] == [0, 0]
    for name in ('a', 'b'):
        assert tiny.outcome(LONG, tmp_path / name) == whole


def test_labels_are_corrected_and_new_images_labelled_on_the_gpu_as_on_the_cpu(tmp_path):
    for i in range(40):
        place = tmp_path / 'images' / ('dark', 'bright')[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        shades = np.arange(64, dtype=np.uint8).reshape(8, 8) + 150 * (i % 2) + i // 2
        Image.fromarray(shades).save(place / f'{i}.png')
    out, image = str(tmp_path / 'out'), str(tmp_path / 'images' / 'dark' / '0.png')
    words = ['ours.correct.epochs=2', 'ours.correct.begin=1', 'ours.fine_tune.epochs=1']
    words = [word for override in words for word in ('--set', override)]
    words = ['correct', str(tmp_path / 'images'), '--out', out, '--json', *words]
    done = call(sys.executable, '-m', 'chainer_jo', *words, '--device', 'cuda:0')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)['judged'] == 40
    found = []
    for name in ('cuda:0', 'cpu'):
        words = ['predict', out, image, '--json', '--device', name]
        done = call(sys.executable, '-m', 'chainer_jo', *words)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)[0]['probabilities']['dark'])
    assert abs(found[0] - found[1]) < 0.01
