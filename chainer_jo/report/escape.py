"""Makes text from result files harmless: no escape codes, HTML, links or table bars.

A result may come from anybody, and its text is shown on terminals and on pages in a browser.
"""

import re

LONGEST = 200


def plain(text, longest=LONGEST):
    """Returns ``text`` as one line of at most ``longest`` printable characters.

    Other characters become Python escapes. So do lone surrogates, so that the line can be written
    as UTF-8.
    """
    # A terminal escape code in a file name could overwrite earlier lines.
    text = str(text)
    if not text.isprintable():
        text = ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= longest else text[: longest - 1] + '…'


def escaped(text):
    """Returns ``text`` as Markdown that renders as exactly this text."""
    text = re.sub(r'([\\`*\[\]<>|&@])', r'\\\1', plain(text))
    # GitHub turns bare addresses into links.
    return text.replace('://', ':\\//').replace('www.', 'www\\.')


def anchor(heading):
    """Returns the anchor that GitHub gives to a heading."""
    words = heading.lower().replace(' ', '-')
    return ''.join(c for c in words if c.isalnum() or c in '-_')


def code(text, longest=LONGEST):
    """Returns ``text`` as a Markdown code span that also fits into a table."""
    # A backtick cannot be escaped inside a code span.
    return '`' + plain(text, longest).replace('`', "'").replace('|', '\\|') + '`'
