"""Records in a trial's folder why it last failed, until it is trained again."""

import contextlib
import datetime
import os

from chainer_jo import store
from chainer_jo.errors import DataError, WriteError, excerpt

NAME = 'failure.json'
MOST_LETTERS = 300


def keep(folder, exit_code, reason):
    """Writes why a trial failed. If it cannot be written, as on a full disk, nothing is raised.

    Args:
        folder (pathlib.Path): The trial's folder. It is made if necessary, but not if the folder of
            all trials is gone.
        exit_code (int): Exit code of the trial's process.
        reason (str): The reason, in one line.
    """
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    # Not Path.exists, which raises an error of its own where a file server fails.
    if not os.path.exists(folder.parent):
        return
    with contextlib.suppress(WriteError):
        store.make_folder(folder)
        content = {'exit_code': exit_code, 'reason': excerpt(reason, MOST_LETTERS), 'when': when}
        store.write_sealed(folder / NAME, content)


def reason(folder):
    """Returns why the trial in a folder last failed, in one printable line, or ``None``."""
    if not os.path.exists(folder / NAME):
        return None
    try:
        return excerpt(store.read_sealed(folder / NAME).get('reason'), MOST_LETTERS)
    except (DataError, WriteError) as error:
        return f'{NAME} cannot be read: {excerpt(error.seen)}'


def forget(folder):
    """Removes the record, because the trial is trained again."""
    if os.path.exists(folder / NAME):
        (folder / NAME).unlink()
