"""Both reports in a real browser: narrow and wide, light and dark, by keyboard."""

import contextlib
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import test_corrections_page as corrected

from chainer_jo import store
from chainer_jo.datasets.label_files import save_noise
from chainer_jo.report import publish

QUICK = Path(__file__).parents[2] / 'results/reference/quick'
HOW = 'a browser is missing: pip install ".[browser]", and apt-get install chromium'
automation = pytest.importorskip('playwright.sync_api', reason=HOW)

# The least contrast of any text with what is behind it (WCAG 2, 1.4.3).
CONTRAST = """() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    const colour = numbers(getComputedStyle(element).backgroundColor);
    return colour[3] === 0 ? behind(element.parentElement) : colour;
  };
  const ratio = (element) => {
    const two = [numbers(getComputedStyle(element).color), behind(element)].map(light).sort();
    return (Math.max(...two) + 0.05) / (Math.min(...two) + 0.05);
  };
  const words = (element) =>
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return Math.min(...[...document.body.querySelectorAll('*')].filter(words).map(ratio));
}"""
FOCUSED = """() => {
  const element = document.activeElement, box = element.getBoundingClientRect();
  const all = [...document.querySelectorAll('a, summary, [tabindex]')]
    .filter((one) => one.checkVisibility());
  return [all.indexOf(element), getComputedStyle(element).outlineStyle, box.width > 0, all.length];
}"""


@pytest.fixture(scope='module')
def browser():
    with automation.sync_playwright() as started:
        # Its own, or the system's.
        for path in (None, *map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))):
            with contextlib.suppress(automation.Error):
                found = started.chromium.launch(executable_path=path)
                yield found
                found.close()
                return
        pytest.skip(HOW)


@pytest.fixture(scope='module')
def reports(tmp_path_factory):
    """Addresses of a report of ``correct`` and of one of tables, with all that makes them wide."""
    folder = tmp_path_factory.mktemp('reports')
    classes = (*map(str, range(10)), 'a class whose name has many words', 'x' * 60)
    table = [
        corrected.row(f'{"deep/" * 9}{"n" * 90}{i}.png', classes[i % 12], classes[i % 11])
        for i in range(90)
    ]
    table += [corrected.left_out('torn/' + 'n' * 180, 'damaged: ' + 'z' * 90)]
    store.write_text(folder / 'corrected.html', corrected.page(table, classes, size=40))
    quick = shutil.copytree(QUICK, folder / 'quick')
    run = min((quick / 'runs').iterdir())
    true = np.arange(2000, dtype='i') % 20
    save_noise(run / 'noisy_labels.arrays', true[::-1].copy(), true, np.arange(2000))
    store.write_arrays(run / 'labels.arrays', {'y': np.eye(20, dtype='f')[true]})
    publish.write_pages(quick)
    return {'corrected': folder / 'corrected.html', 'tables': quick / 'report.html'}


@pytest.fixture(params=['corrected', 'tables'])
def shown(request, browser, reports):
    """Shows a report in a window of some width and colours."""
    with contextlib.ExitStack() as stack:

        def show(width=1280, scheme='light'):
            size = {'width': width, 'height': 800}
            context = browser.new_context(viewport=size, color_scheme=scheme)
            stack.callback(context.close)
            page, page.said = context.new_page(), []
            page.on('console', lambda message: page.said.append(message.text))
            page.on('request', lambda asked: page.said.append(asked.url[:80]))
            page.goto(reports[request.param].as_uri())
            return page

        yield show


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [1280, 390])
def test_nothing_is_wider_than_the_window_and_all_text_stands_out(shown, width, scheme):
    page = shown(width, scheme)
    assert page.evaluate('document.documentElement.scrollWidth') == width
    assert page.evaluate(CONTRAST) >= 4.5
    paper = page.evaluate('getComputedStyle(document.body).backgroundColor')
    assert (paper == 'rgb(255, 255, 255)') == (scheme == 'light')
    # No word of an error, and nothing asked for but the file itself.
    assert [said for said in page.said if not said.startswith('data:')] == [page.url]


def test_keys_reach_all_that_can_be_used_in_the_order_in_which_it_is_read(shown):
    page, seen = shown(390), []
    *_, count = page.evaluate(FOCUSED)
    assert count > 5
    for _ in range(count):
        page.keyboard.press('Tab')
        seen.append(page.evaluate(FOCUSED))
    assert seen == [[i, 'solid', True, count] for i in range(count)]
    # A table that is wider than the window is scrolled by keys.
    page.evaluate("document.querySelector('.counts').parentElement.focus()")
    page.keyboard.press('ArrowRight')
    # Not wait_for_function: it evaluates text in the page, which the page's policy forbids.
    deadline = time.monotonic() + 30
    while not page.evaluate("document.querySelector('.counts').parentElement.scrollLeft"):
        assert time.monotonic() < deadline
