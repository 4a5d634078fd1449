"""The README shows what files hold. ``UPDATE_README=1`` puts the newest content in."""

import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REFERENCE = 'results/reference'


def table_of(path):
    """The first Markdown table of a page, with its heading lines and without notes."""
    lines = (ROOT / path).read_text().splitlines(keepends=True)
    return ''.join(line for line in lines if line.startswith('|'))


BLOCKS = {
    f'{REFERENCE}/quick/table2.md': lambda path: (ROOT / path).read_text(),
    f'{REFERENCE}/benchmarks/cpu.md': table_of,
}


@pytest.mark.parametrize('path', BLOCKS)
def test_the_readme_shows_what_the_file_holds(path):
    readme, content = ROOT / 'README.md', BLOCKS[path](path)
    begin, end = f'<!-- begin {path} -->\n', f'<!-- end {path} -->'
    before, _, rest = readme.read_text().partition(begin)
    shown, _, after = rest.partition(end)
    if os.environ.get('UPDATE_README'):
        readme.write_text(before + begin + content + end + after)
        shown = content
    assert shown == content
    assert '|' in content


def test_every_picture_and_page_that_the_readme_names_is_there():
    words = (ROOT / 'README.md').read_text().split('](')[1:]
    links = [word.partition(')')[0] for word in words]
    local = [link for link in links if not link.startswith('http')]
    assert len(local) >= 3
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_every_mean_with_a_spread_stands_in_a_committed_table():
    tables = '\n'.join(path.read_text() for path in ROOT.glob(f'{REFERENCE}/*/table*.md'))
    quoted = re.findall(r'\d\d\.\d\d ± \d+\.\d\d', (ROOT / 'README.md').read_text())

    assert len(quoted) >= 9
    assert [number for number in quoted if number not in tables] == []


def test_every_folder_of_the_package_is_in_the_layout():
    text = (ROOT / 'README.md').read_text()
    folders = {path.parent.name for path in ROOT.glob('chainer_jo/*/__init__.py')}

    assert len(folders) >= 8
    assert [name for name in sorted(folders) if f'{name}/`' not in text] == []


def test_the_seconds_of_a_step_are_those_that_were_measured():
    rows = json.loads((ROOT / f'{REFERENCE}/benchmarks/cpu.json').read_text())['rows']
    rows = [row for row in rows if row['precision'] == 'float32']
    seconds = {row['system']: row['seconds_per_step'] for row in rows}
    said = (
        f'takes {seconds["chainer_jo"]:.2f} s, against {seconds["chainer"]:.2f} s for stock '
        f'Chainer and {seconds["pytorch channels_last"]:.2f} s for PyTorch with channels_last'
    )

    assert said in ' '.join((ROOT / 'README.md').read_text().split())


def test_the_milliseconds_on_a_gpu_are_those_that_were_measured():
    rows = json.loads((ROOT / f'{REFERENCE}/benchmarks/gpu.json').read_text())['rows']
    step = {(row['system'], row['precision']): row['seconds_per_step'] * 1e3 for row in rows}
    epoch = {
        (row['system'], row['precision']): row['measured_epoch_seconds']
        for row in rows
        if 'measured_epoch_seconds' in row
    }
    fastest = 'pytorch channels_last compile graph'
    text = (ROOT / 'README.md').read_text()

    def said(*numbers):
        return ' | '.join(numbers) in text

    def both(times, system, unit):
        return [f'{times[system, precision]:.2f} {unit}' for precision in ('float32', 'float16')]

    assert said(*both(step, 'chainer_jo', 'ms'))
    assert said(*both(step, 'pytorch channels_last', 'ms'))
    assert said(*both(step, fastest, 'ms'))
    assert said(*both(epoch, 'chainer_jo ours step 1', 's'))
    assert said(*both(epoch, 'chainer_jo ours step 2', 's'))
    assert said(f'{step["chainer", "float32"]:.2f} ms')
    behind = step['chainer_jo', 'float16'] / step[fastest, 'float16'] - 1
    assert f"PyTorch's fastest mode is still {100 * behind:.0f} % ahead" in text
