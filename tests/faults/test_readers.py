"""Each reader of foreign files reads the whole ones, and of damaged ones raises what it may."""

import random

import fuzz
import pytest
import readers
import seeds

from chainer_jo.errors import DataError


@pytest.mark.parametrize('name', readers.READERS)
def test_whole_files_are_read_and_damaged_ones_are_read_or_refused(name, tmp_path):
    draw, files = random.Random(0), seeds.of(name)
    with readers.READERS[name].setting():
        assert None in [readers.call(name, content, tmp_path) for content in files]
        for _ in range(100):
            content = bytearray(draw.choice(files))
            for _ in range(draw.randrange(1, 4)):
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            readers.call(
                name, bytes(content[: draw.choice([None, draw.randrange(len(content))])]), tmp_path
            )


# What the fuzzer found, as a change of the first whole file.
FOUND = {
    'facts that are no text': ('index of Clothing1M', b'{"format"', b'{"\x83ormat'),
    'facts that are no JSON': ('index of Clothing1M', b'"images": "data', b'"images": /data'),
    'facts without a folder': ('index of Clothing1M', b'"folder"', b'"golder"'),
    'a net without a mean': ('trained nets', b'mean.npy', b'moon.npy'),
    'a net of other settings': ('trained nets', b'"blocks"', b'"blacks"'),
    'a net of a million blocks': ('trained nets', b'  1,\n', b'  1000000,\n'),
    'a net of text': ('trained nets', b'"filters": [\n   2,', b'"filters": [\n   "2",'),
    'labels under another name': ('noisy labels', b'noisy.npy', b'nossy.npy'),
    'facts of another kind': ('index of Clothing1M', b'"limit": 0.01', b'"limit": null'),
}


@pytest.mark.parametrize('change', FOUND)
def test_what_the_fuzzer_found_is_refused(change, tmp_path):
    name, old, new = FOUND[change]
    content = seeds.of(name)[0]
    assert old in content
    with readers.READERS[name].setting(), fuzz.without_checksums():
        assert isinstance(readers.call(name, content.replace(old, new), tmp_path), DataError)
