"""Why a trial failed last: kept in its folder until it is trained again."""

import contextlib
import datetime

from chainer_jo import store
from chainer_jo.errors import DataError, WriteError, excerpt

NAME = 'failure.json'
MOST_LETTERS = 300


def keep(folder, exit_code, reason):
    """Writes a failure; that it cannot be written, as on a full disk, ends nothing.

    Args:
        folder (pathlib.Path): The trial's; it is made if the trial failed before. Where the folder
            of all trials is gone, it stays away.
        exit_code (int): That of its process, as this package has them.
        reason (str): In one line.
    """
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    if not folder.parent.exists():
        return
    with contextlib.suppress(WriteError):
        store.make_folder(folder)
        content = {'exit_code': exit_code, 'reason': excerpt(reason, MOST_LETTERS), 'when': when}
        store.write_sealed(folder / NAME, content)


def reason(folder):
    """Returns why the trial in a folder failed last, in one printable line, or ``None``."""
    if not (folder / NAME).exists():
        return None
    try:
        return excerpt(store.read_sealed(folder / NAME).get('reason'), MOST_LETTERS)
    except (DataError, WriteError) as error:
        return f'{NAME} cannot be read: {excerpt(error.seen)}'


def forget(folder):
    """Removes what was kept: the trial is trained again."""
    if (folder / NAME).exists():
        (folder / NAME).unlink()
