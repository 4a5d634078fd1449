"""Each reader of foreign files reads the whole ones, and of damaged ones raises what it may."""

import random

import pytest
import readers
import seeds


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
