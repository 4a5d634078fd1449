"""Loads the HTML templates. Each page is one file, without scripts or external resources."""

from pathlib import Path

import jinja2

from chainer_jo.report.curves import HEIGHT, WIDTH
from chainer_jo.report.escape import plain


def template(name):
    """Returns the template of an ``.html`` file in this folder; it escapes what it shows."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        # A misspelt name in a template is an error instead of an empty string.
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # File names may contain characters that are not allowed in a page.
    environment.filters['plain'] = plain
    environment.globals |= {'width': WIDTH, 'height': HEIGHT}
    return environment.get_template(name)
