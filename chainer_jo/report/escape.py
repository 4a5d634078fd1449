"""Text from result files made harmless: no escape code, HTML, link or table bar gets through.

A result may come from anybody, and its words end up on a terminal and on pages in a browser.
"""

import re

LONGEST = 200


def plain(text, longest=LONGEST):
    """Returns ``text`` as one line of printable characters; others as Python escapes, the end cut.

    Lone surrogates become escapes too, so the line can be written as UTF-8.
    """
    # An escape code in a file name could rewrite the lines above it.
    text = str(text)
    if not text.isprintable():
        text = ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= longest else text[: longest - 1] + '…'


def escaped(text):
    """Returns ``text`` as Markdown that shows it and does nothing else."""
    text = re.sub(r'([\\`*\[\]<>|&@])', r'\\\1', plain(text))
    # GitHub turns bare addresses into links.
    return text.replace('://', ':\\//').replace('www.', 'www\\.')


def code(text, longest=LONGEST):
    """Returns ``text`` as a Markdown code span that also fits into a table."""
    # Inside a code span no backslash protects a backtick.
    return '`' + plain(text, longest).replace('`', "'").replace('|', '\\|') + '`'
