"""The README shows what its first command made. ``UPDATE_README=1`` puts the newest table in."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = 'results/quick/table2.md'
BEGIN, END = f'<!-- begin {TABLE} -->\n', f'<!-- end {TABLE} -->'


def test_the_readme_shows_the_table_that_the_quick_preset_made():
    path, table = ROOT / 'README.md', (ROOT / TABLE).read_text()
    before, _, rest = path.read_text().partition(BEGIN)
    shown, _, after = rest.partition(END)
    if os.environ.get('UPDATE_README'):
        path.write_text(before + BEGIN + table + END + after)
        shown = table
    assert shown == table


def test_every_picture_and_page_that_the_readme_names_is_there():
    words = (ROOT / 'README.md').read_text().split('](')[1:]
    links = [word.partition(')')[0] for word in words]
    local = [link for link in links if not link.startswith('http')]
    assert len(local) >= 3
    assert [link for link in local if not (ROOT / link).exists()] == []
