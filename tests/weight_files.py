"""Writers of the files in which weights are published, from the descriptions of their formats."""

import collections
import contextlib
import io
import json
import pickle
import struct
import sys
import types
import zipfile
from unittest import mock

STREAM = (0x1950A86A20F9469CFC6C, 1001, {'protocol_version': 1001, 'little_endian': True})


def safetensors(path, arrays, change=None, tail=b''):
    header, place = {'__metadata__': {'format': 'pt'}}, 0
    for name, array in arrays.items():
        kind = {'float32': 'F32', 'int64': 'I64', 'float16': 'F16'}[array.dtype.name]
        header[name] = {'dtype': kind, 'shape': list(array.shape)}
        header[name]['data_offsets'] = [place, place + array.nbytes]
        place += array.nbytes
    if change:
        change(header)
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        for array in arrays.values():
            file.write(array.tobytes())
        file.write(tail)
    return path


class Storage:
    def __init__(self, key, array):
        self.key, self.array = key, array


class Rebuilt:
    """Pickles as torch's tensors do."""

    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


@contextlib.contextmanager
def modules():
    """Modules in which pickle finds the names of torch's that a file of torch's has."""
    found = {name: types.ModuleType(name) for name in ('torch', 'torch._utils')}

    def put(module, thing, name):
        thing.__module__, thing.__qualname__, thing.__name__ = module, name, name
        setattr(found[module], name, thing)

    for name in ('FloatStorage', 'LongStorage', 'HalfStorage'):
        put('torch', type(name, (), {}), name)
    for name in ('_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_parameter'):
        put('torch._utils', lambda *_: None, name)
    with mock.patch.dict(sys.modules, found):
        yield found


def pickled(torch, arrays, stream, rebuild='_rebuild_tensor_v2', parameters=False, rename=str):
    """The pickle of a state as torch writes it, and its storages by key."""
    storages = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                kinds = {
                    'float32': 'FloatStorage',
                    'int64': 'LongStorage',
                    'float16': 'HalfStorage',
                }
                kind = getattr(torch['torch'], kinds[value.array.dtype.name])
                found = 'storage', kind, value.key, 'cpu', value.array.size
                return (*found, None) if stream else found
            return None

    state = collections.OrderedDict()
    for i, (name, array) in enumerate(arrays.items()):
        storages[rename(i)] = array
        strides = tuple(step // array.itemsize for step in array.strides)
        more = (False, collections.OrderedDict()) if rebuild.endswith('v2') else ()
        function = getattr(torch['torch._utils'], rebuild)
        tensor = Rebuilt(function, Storage(rename(i), array), 0, array.shape, strides, *more)
        if parameters:
            function = torch['torch._utils']._rebuild_parameter
            tensor = Rebuilt(function, tensor, True, collections.OrderedDict())
        state[name] = tensor
    state._metadata = collections.OrderedDict([('', {'version': 1}), ('bn1', {'version': 2})])
    file = io.BytesIO()
    Pickler(file, 2).dump(state)
    return file.getvalue(), storages


def torch_zip(path, torch, arrays, kind=zipfile.ZIP_STORED, order=b'little', **options):
    content, storages = pickled(torch, arrays, False, **options)
    with zipfile.ZipFile(path, 'w', kind) as archive:
        archive.writestr('archive/data.pkl', content)
        archive.writestr('archive/byteorder', order)
        for key, array in storages.items():
            archive.writestr(f'archive/data/{key}', array.tobytes())
        archive.writestr('archive/version', b'3\n')
    return path


def torch_stream(path, torch, arrays, head=STREAM, lie=0, **options):
    content, storages = pickled(torch, arrays, True, **options)
    with open(path, 'wb') as file:
        for value in head:
            file.write(pickle.dumps(value, 2))
        file.write(content)
        file.write(pickle.dumps(list(storages), 2))
        for array in storages.values():
            file.write(struct.pack('<q', array.size + lie) + array.tobytes())
    return path
