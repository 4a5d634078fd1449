"""Weights of ResNet-50 are read as they were written, and nothing else is read or run."""

import hashlib
import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import chainer
import chainer.links as L
import numpy as np
import pytest
import weight_files
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_files import STREAM, pickled, safetensors, torch_stream, torch_zip

from chainer_jo.errors import DataError
from chainer_jo.links import pretrained
from chainer_jo.links.resnet50 import CAFFE, TORCHVISION, ResNet50


def torch_arrays():
    """The arrays of torchvision's net by its names, in its order, with its counts."""
    rng, arrays = np.random.default_rng(0), {}

    def conv(name, *shape):
        arrays[f'{name}.weight'] = rng.standard_normal(shape, 'f') / 10

    def bn(name, size):
        for leaf in ('weight', 'bias', 'running_mean', 'running_var'):
            arrays[f'{name}.{leaf}'] = rng.random(size, 'f')
        arrays[f'{name}.num_batches_tracked'] = np.array(7)

    conv('conv1', 64, 3, 7, 7)
    bn('bn1', 64)
    channels = 64
    for stage, (blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], 1):
        for i in range(blocks):
            sizes = [(width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            for j, shape in enumerate(sizes, 1):
                conv(f'layer{stage}.{i}.conv{j}', *shape)
                bn(f'layer{stage}.{i}.bn{j}', shape[0])
            if i == 0:
                conv(f'layer{stage}.0.downsample.0', 4 * width, channels, 1, 1)
                bn(f'layer{stage}.0.downsample.1', 4 * width)
            channels = 4 * width
    conv('fc', 1000, 2048)
    arrays['fc.bias'] = rng.random(1000, 'f')
    return arrays


ARRAYS = torch_arrays()


def without_counts():
    return {name: array for name, array in ARRAYS.items() if 'tracked' not in name}


def our_name(name):
    """The name here for one of torchvision's."""
    *path, leaf = name.replace('downsample.0', 'conv4').replace('downsample.1', 'bn4').split('.')
    if path[0].startswith('layer'):
        path[0] = f'res{int(path[0][5:]) + 1}'
    leaves = {'running_mean': 'avg_mean', 'running_var': 'avg_var', 'bias': 'beta'}
    leaves['weight'] = 'gamma' if path[-1].startswith('bn') else 'W'
    return '/'.join([*path, leaves[leaf]])


@pytest.fixture(scope='module')
def torch():
    with weight_files.modules() as found:
        yield found


@pytest.fixture(scope='module')
def good(torch, tmp_path_factory):
    """A file of each kind, by name."""
    folder = tmp_path_factory.mktemp('weights')
    files = {
        'safetensors': safetensors(folder / 'model.safetensors', ARRAYS),
        'zip': torch_zip(folder / 'zip.pth', torch, ARRAYS),
        'stream': torch_stream(folder / 'stream.pth', torch, ARRAYS),
    }
    yield files
    for path in files.values():
        path.unlink()


def refusal(path):
    with pytest.raises(DataError) as caught:
        pretrained.read(path)
    text = str(caught.value)
    problem, _, fix = text.split('\n')
    assert problem == f'error: no weights of ResNet-50 in {path}'
    for word in ('resnet50-0676ba61.pth', '97.8 MiB', '102,502,400 bytes', '5d061a3c'):
        assert word in fix
    return caught.value.seen


@pytest.mark.parametrize('kind', ['safetensors', 'zip', 'stream'])
def test_torchvisions_weights_are_read_as_they_were_written(kind, good):
    weights = pretrained.read(good[kind])
    assert weights.form is TORCHVISION
    assert weights.digest == hashlib.sha256(good[kind].read_bytes()).hexdigest()
    wanted = {our_name(k): v for k, v in without_counts().items() if not k.startswith('fc.')}
    assert set(weights.arrays) == set(wanted)
    assert len(wanted) == 265
    for name, array in wanted.items():
        np.testing.assert_array_equal(weights.arrays[name], array, err_msg=name)


@pytest.mark.parametrize('rebuild', ['_rebuild_tensor', '_rebuild_tensor_v2'])
def test_a_file_of_2017_has_no_counts_and_holds_parameters(rebuild, torch, tmp_path):
    path = tmp_path / 'old.pth'
    torch_stream(path, torch, without_counts(), rebuild=rebuild, parameters=True, rename=hex)
    weights = pretrained.read(path)
    np.testing.assert_array_equal(weights.arrays['res5/2/bn3/beta'], ARRAYS['layer4.2.bn3.bias'])


def test_tensors_that_lie_otherwise_in_memory_are_read_as_they_are(torch, tmp_path):
    name = 'layer2.0.conv2.weight'
    turned = np.asfortranarray(ARRAYS[name])
    path = torch_zip(tmp_path / 'w.pth', torch, ARRAYS | {name: turned}, order=b'little')
    # The archive has the numbers in the order of memory.
    content, storages = pickled(torch, ARRAYS | {name: turned}, False)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('w/data.pkl', content)
        for key, array in storages.items():
            archive.writestr(f'w/data/{key}', array.tobytes('A'))
    np.testing.assert_array_equal(pretrained.read(path).arrays['res3/0/conv2/W'], turned)


@pytest.fixture(scope='module')
def chainers(tmp_path_factory):
    net, rng = L.ResNet50Layers(None), np.random.default_rng(0)
    for _, param in sorted(net.namedparams()):
        param.array[...] += rng.normal(size=param.shape) / 20
    path = tmp_path_factory.mktemp('chainer') / 'ResNet-50-model.npz'
    chainer.serializers.save_npz(path, net, compression=False)
    yield net, path
    path.unlink()


def test_chainers_own_weights_give_chainers_own_features(chainers):
    theirs, path = chainers
    weights = pretrained.read(path)
    assert weights.form is CAFFE
    net = weights.build(14, rng=np.random.default_rng(0))
    image = np.random.default_rng(0).integers(256, size=(2, 3, 64, 70)).astype('f')
    mean = np.array([123.152, 115.903, 103.063], 'f').reshape(3, 1, 1)
    with chainer.using_config('train', False):
        found = net.features(image / 255 - net.mean).array
        # Theirs takes blue first.
        wanted = theirs((image - mean)[:, ::-1], layers=['pool5'])['pool5'].array
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * abs(wanted).max())


def test_the_net_has_the_weights_and_a_last_layer_of_its_own(good):
    net = pretrained.read(good['zip']).build(14, rng=np.random.default_rng(3))
    for name, param in net.namedparams():
        if not name.startswith('/fc'):
            theirs = next(k for k in without_counts() if our_name(k) == name[1:])
            np.testing.assert_array_equal(param.array, ARRAYS[theirs], err_msg=name)
    np.testing.assert_array_equal(net.bn1.avg_var, ARRAYS['bn1.running_var'])
    plain = ResNet50(14, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(net.fc.W.array, plain.fc.W.array)
    assert net.mean.ravel() == pytest.approx([0.485, 0.456, 0.406])
    # Its own: what training does to them leaves the weights as they are.
    net.conv1.W.array += 1
    assert net.conv1.W.array.flags.writeable


def changed(**changes):
    """The arrays with some of them changed, or left out for None."""
    arrays = ARRAYS | {name.replace('__', '.'): array for name, array in changes.items()}
    return {name: array for name, array in arrays.items() if array is not None}


NAN = np.full(64, np.nan, 'f')


@pytest.mark.parametrize(
    ('arrays', 'seen'),
    [
        ({}, '0 names, but not bn1.bias, bn1.running_mean'),
        (changed(fc__bias=None), '319 names, but not fc.bias'),
        (changed(layer1__3__conv1__weight=NAN), 'names of another net: layer1.3.conv1.weight'),
        (changed(bn1__bias=np.zeros(65, 'f')), 'bn1.bias has the shape (65,), not (64,)'),
        (changed(bn1__bias=np.zeros((1, 64), 'f')), 'bn1.bias has the shape (1, 64), not (64,)'),
        (changed(bn1__bias=np.zeros(64, int)), 'bn1.bias has the type int64, not float32'),
        (changed(bn1__bias=NAN), 'bn1.bias contains NaN or infinity'),
        (
            changed(bn1__running_var=np.full(64, -1, 'f')),
            'bn1.running_var contains a variance below 0',
        ),
        (changed(fc__weight=np.zeros((9, 512), 'f')), 'fc.weight has the shape (9, 512), not'),
        (changed(fc__bias=np.zeros(9, 'f')), 'fc.bias has the shape (9,), not (1000,)'),
        (changed(fc__weight=np.zeros((), 'f')), 'fc.weight has the shape (), not (0, 2048)'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_another_net_is_refused_by_what_is_odd_about_it(arrays, seen, tmp_path):
    assert refusal(safetensors(tmp_path / 'w.safetensors', arrays)).startswith(seen)


def test_weights_of_half_precision_are_refused(torch, tmp_path):
    half = {'conv1.weight': ARRAYS['conv1.weight'].astype(np.float16)}
    assert refusal(safetensors(tmp_path / 'w', half)) == 'conv1.weight has the type F16, not F32'
    arrays = ARRAYS | half
    seen = refusal(torch_zip(tmp_path / 'w.pth', torch, arrays))
    assert seen == 'conv1.weight has the type float16, not float32'


def set_part(name, **values):
    return lambda header: header[name].update(values)


def end_beyond(header):
    header['b'].update(shape=[2**40], data_offsets=[8, 8 + 2**42])


@pytest.mark.parametrize(
    ('change', 'seen'),
    [
        (set_part('b', data_offsets=[4, 12]), 'b has the wrong offset or size'),
        (set_part('b', data_offsets=[0, 8]), 'b has the wrong offset or size'),
        (set_part('b', data_offsets=[12, 16]), 'b has the wrong offset or size'),
        (set_part('b', data_offsets=[16, 8]), 'b has the wrong offset or size'),
        (set_part('b', shape=[3]), 'b has the wrong offset or size'),
        (set_part('b', shape=[-1, -2]), 'b has an invalid shape or offset'),
        (set_part('b', shape=[True, 2]), 'b has an invalid shape or offset'),
        (set_part('b', shape=[2.0]), 'b has an invalid shape or offset'),
        (set_part('b', data_offsets=[8, 1e400]), 'b has an invalid shape or offset'),
        (set_part('b', dtype='U8'), 'b has the type U8, not F32'),
        (set_part('b', dtype=['F32']), "TypeError: unhashable type: 'list'"),
        (end_beyond, 'the file is truncated, or its header is wrong'),
        (lambda header: header.pop('b'), '8 bytes after the last number'),
        (lambda header: header.update(b=7), "TypeError: 'int' object"),
        (lambda header: header['b'].pop('shape'), "KeyError: 'shape'"),
    ],
)
def test_a_safetensors_header_that_lies_is_refused(change, seen, tmp_path):
    arrays = {name: np.zeros(2, 'f') for name in 'ab'}
    assert refusal(safetensors(tmp_path / 'w', arrays, change)).startswith(seen)


def raw(path, header, length=None):
    path.write_bytes(struct.pack('<Q', len(header) if length is None else length) + header)
    return path


@pytest.mark.parametrize(
    ('header', 'length', 'seen'),
    [
        (b'{}', 2**60, f'a header of {2**60:,} bytes'),
        (b'{}', 100, 'the file is truncated, or its header is wrong'),
        (b'{}', None, '0 names, but not'),
        (b'{"a": 1, "a": 2}', None, 'a name occurs twice'),
        (b'{"__metadata__": ' + b'[' * 10**6, None, 'RecursionError'),
        (b'{"a": ' + b'9' * 10**5 + b'}', None, 'ValueError: Exceeds the limit'),
        (b'{"a\xff": 1}', None, 'UnicodeDecodeError'),
        (b'{"a": ', None, 'JSONDecodeError'),
    ],
    ids=['long', 'short', 'none', 'twins', 'deep', 'digits', 'bytes', 'torn'],
)
def test_a_safetensors_header_that_is_none_is_refused(header, length, seen, tmp_path):
    assert refusal(raw(tmp_path / 'w', header, length)).startswith(seen)


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_header_ends_in_a_refusal(good, data):
    path = good['safetensors'].with_name('damaged')
    safetensors(path, {name: np.zeros(2, 'f') for name in 'ab'})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize('kind', ['safetensors', 'zip', 'stream'])
@pytest.mark.parametrize('share', [0.999, 0.5, 1e-4, 0])
def test_a_file_that_is_cut_short_is_refused(kind, share, good, tmp_path):
    path, size = tmp_path / 'cut.pth', good[kind].stat().st_size
    with open(good[kind], 'rb') as file:
        path.write_bytes(file.read(int(size * share)))
    assert refusal(path)


class Runs:
    def __reduce__(self):
        return open, ('ran', 'w')


@pytest.mark.parametrize('hidden', [False, True], ids=['plain', 'in a state'])
@pytest.mark.parametrize('kind', ['zip', 'stream'])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(
    kind, hidden, torch, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({'conv1.weight': Runs()} if hidden else Runs(), 2)
    path = tmp_path / 'w.pth'
    if kind == 'zip':
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('w/data.pkl', content)
    else:
        head = b''.join(pickle.dumps(value, 2) for value in STREAM)
        path.write_bytes(head + content + pickle.dumps([], 2))
    assert refusal(path) == 'NotPlainError: a call of io.open'
    assert not (tmp_path / 'ran').exists()


def test_each_of_the_pickles_of_a_stream_is_only_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = [pickle.dumps(value, 2) for value in (*STREAM, {}, [])]
    for i in range(len(parts)):
        attacked = parts[:i] + [pickle.dumps(Runs(), 2)] + parts[i + 1 :]
        (tmp_path / 'w.pth').write_bytes(b''.join(attacked))
        assert refusal(tmp_path / 'w.pth') == 'NotPlainError: a call of io.open'
        assert not (tmp_path / 'ran').exists()


FEW = {'a': np.zeros(6, 'f'), 'b': np.zeros((2, 3), 'f')}


@pytest.mark.parametrize('lie', [1, -1, 2**40, -(2**40)])
def test_a_storage_of_another_length_than_announced_is_refused(lie, torch, tmp_path):
    seen = refusal(torch_stream(tmp_path / 'w.pth', torch, FEW, lie=lie))
    assert seen == 'NotPlainError: a storage whose length differs from the announced one'


def test_numbers_of_a_big_endian_machine_are_refused(torch, tmp_path):
    seen = refusal(torch_zip(tmp_path / 'w.pth', torch, FEW, order=b'big'))
    assert seen == 'numbers that are not little-endian'
    head = (*STREAM[:2], {'little_endian': False})
    seen = refusal(torch_stream(tmp_path / 'w.pth', torch, FEW, head=head))
    assert seen == 'NotPlainError: numbers that are not little-endian'


def one_storage_many_times(torch, path):
    """A thousand tensors over one storage, turned round, so that each would be a copy."""
    turned = np.zeros((1000, 1000), 'f').T
    content, _ = pickled(torch, {str(i): turned for i in range(1000)}, False, rename=lambda _: '0')
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('w/data.pkl', content)
        archive.writestr('w/data/0', bytes(turned.nbytes))


def unpacks_to_much(torch, path):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('conv1/W.npy', bytes(2**29))


def many_members(torch, path):
    with zipfile.ZipFile(path, 'w') as archive:
        for i in range(40_000):
            archive.writestr(f'{i:070}', b'')


def large_and_empty(torch, path):
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', 2) + b'{}')
        file.truncate(2**40)


def lies_about_its_shape(torch, path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {'descr': '<f4', 'fortran_order': False, 'shape': (2**40,)}
    )
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('conv1/W.npy', header.getvalue())


@pytest.mark.parametrize(
    ('write', 'seen'),
    [
        (one_storage_many_times, 'more'),
        (unpacks_to_much, 'conv1/W.npy has more than'),
        (many_members, 'an archive with too many files'),
        (large_and_empty, f'{2**40:,} bytes, more than any'),
        (lies_about_its_shape, 'a truncated file'),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
def test_a_bomb_is_refused_in_little_memory(write, seen, torch, tmp_path):
    write(torch, tmp_path / 'w.pth')
    tracemalloc.start()
    found = refusal(tmp_path / 'w.pth')
    assert tracemalloc.get_traced_memory()[1] < 2.5 * pretrained.LARGEST
    tracemalloc.stop()
    assert seen in found


@pytest.mark.parametrize('kind', ['safetensors', 'zip', 'stream'])
def test_reading_takes_little_more_memory_than_the_weights(kind, good):
    tracemalloc.start()
    pretrained.read(good[kind])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * good[kind].stat().st_size


def test_an_array_of_objects_in_chainers_file_is_refused(chainers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'w.npz'
    with zipfile.ZipFile(chainers[1]) as old, zipfile.ZipFile(path, 'w') as new:
        for name in old.namelist():
            file = io.BytesIO(old.read(name))
            if name == 'bn1/beta.npy':
                file = io.BytesIO()
                np.save(file, np.array([Runs()] * 64, dtype=object), allow_pickle=True)
            new.writestr(name, file.getvalue())
    assert refusal(path) == 'NotPlainError: a call of io.open'
    assert not (tmp_path / 'ran').exists()


def test_a_name_that_comes_twice_in_an_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / 'w.npz', 'w') as archive:
        archive.writestr('conv1/W.npy', b'')
        with pytest.warns(UserWarning, match='Duplicate'):
            archive.writestr('conv1/W.npy', b'')
    assert refusal(tmp_path / 'w.npz') == 'a name occurs twice'


def test_a_file_whose_name_tells_another_digest_is_refused(good, tmp_path):
    digest = hashlib.sha256(good['zip'].read_bytes()).hexdigest()
    right, wrong = tmp_path / f'resnet50-{digest[:8]}.pth', tmp_path / 'resnet50-0676ba61.pth'
    for path in (right, wrong):
        os.link(good['zip'], path)
    assert pretrained.read(right).digest == digest
    size = good['zip'].stat().st_size
    assert refusal(wrong) == (
        f'{size:,} bytes whose SHA-256 begins with {digest[:8]}, not 0676ba61 as in the name'
    )


@pytest.mark.parametrize(
    ('content', 'seen'),
    [
        (b'', 'an empty file'),
        (b'abc', 'neither a .safetensors, a .pth nor a .npz file'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:5d061a3c', 'a git-lfs pointer'),
        (b'<!DOCTYPE html><html>', 'a web page'),
        (b'PK\3\4', 'a truncated archive'),
    ],
)
def test_what_is_no_file_of_weights_is_said_to_be_what_it_is(content, seen, tmp_path):
    (tmp_path / 'w.pth').write_bytes(content)
    assert refusal(tmp_path / 'w.pth').startswith(seen)


def test_what_is_not_there_or_no_file_is_refused(tmp_path):
    assert refusal(tmp_path / 'none.pth') == 'No such file or directory'
    assert refusal(tmp_path) == 'a folder'
    os.mkfifo(tmp_path / 'pipe')
    assert refusal(tmp_path / 'pipe') == 'not a regular file'


def test_an_archive_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / 'w.pth', 'w') as archive:
        archive.writestr('a.jpg', b'')
    assert refusal(tmp_path / 'w.pth') == 'an archive with a.jpg'
    (tmp_path / 'list.pth').write_bytes(b''.join(pickle.dumps(v, 2) for v in (*STREAM, [1], [])))
    assert refusal(tmp_path / 'list.pth') == 'a list instead of named tensors'
