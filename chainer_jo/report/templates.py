"""The pages for a browser: one file each, without scripts, with nothing from elsewhere."""

from pathlib import Path

import jinja2

from chainer_jo.report.curves import HEIGHT, WIDTH
from chainer_jo.report.escape import plain


def template(name):
    """Returns one of the ``.html`` files beside this one; what it shows is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # File names may contain characters that a page cannot.
    environment.filters['plain'] = plain
    environment.globals |= {'width': WIDTH, 'height': HEIGHT}
    return environment.get_template(name)
