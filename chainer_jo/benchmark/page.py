"""A benchmark as a Markdown page."""

COLUMNS = (
    'system', 'precision', 's/step', 'images/s', 's/epoch', 'peak memory', 'evaluation images/s',
    'steps',
)  # fmt: skip
# Ours, theirs; both a system and its precision.
COMPARED = (
    (('chainer_jo', 'float32'), ('chainer', 'float32')),
    (('chainer_jo', 'float32'), ('pytorch channels_last', 'float32')),
    (('chainer_jo', 'bfloat16'), ('pytorch channels_last', 'bfloat16')),
)


def to_markdown(report):
    """Returns the page of what :func:`chainer_jo.benchmark.compare.run` returns."""
    machine, work, rows = report['machine'], report['workload'], report['rows']
    memory = machine['memory_bytes']
    lines = [
        '# Speed of a training step on the CPU',
        '',
        f'{report["date"][:10]}, {machine["processor"]}, {machine["cores"]} cores'
        + (f' with {", ".join(machine["instructions"])}' if machine['instructions'] else '')
        + (f', {_gib(memory)} of memory' if memory else '')
        + f', {machine["system"]}; load before the start: {machine["load_before"]:.2f}.',
        f'Net: filters {work["net"]["filters"]}, blocks {work["net"]["blocks"]}, '
        f'{rows[0]["parameters"]:,} parameters; mini-batches of {work["batch"]}. A step is '
        f'forward, backward and update; an epoch, {work["epoch_images"]:,} images. '
        'The systems took turns, step by step, from the same weights, and their losses agreed. '
        'Medians.',
        '',
        f'| {" | ".join(COLUMNS)} |',
        '| --- | --- |' + ' ---: |' * (len(COLUMNS) - 2),
        *map(_line, rows),
        '',
        *(f'- {sentence}.' for sentence in [*_ratios(rows), *_augmentation(rows)]),
        *(f'- {note}' for note in report['notes']),
        *(f'- {versions}' for versions in dict.fromkeys(row['versions'] for row in rows)),
    ]
    return '\n'.join(lines) + '\n'


def _gib(count):
    return f'{count / 2**30:.2f} GiB'


def _line(row):
    cells = (
        row['system'],
        row['precision'],
        f'{row["seconds_per_step"]:.3f}',
        f'{row["images_per_second"]:.0f}',
        f'{row["seconds_per_epoch"]:.0f}',
        _gib(row['peak_memory_bytes']),
        f'{row["evaluation_images_per_second"]:.0f}',
        str(row['steps']),
    )
    return f'| {" | ".join(cells)} |'


def _ratios(rows):
    found = {(row['system'], row['precision']): row for row in rows}
    for ours, theirs in COMPARED:
        if ours in found and theirs in found:
            ratio = found[theirs]['seconds_per_step'] / found[ours]['seconds_per_step']
            share = found[ours]['peak_memory_bytes'] / found[theirs]['peak_memory_bytes']
            yield (
                f'{" ".join(ours)} is {ratio:.2f} times as fast as {" ".join(theirs)}, '
                f'with {share:.2f} times its memory'
            )


def _augmentation(rows):
    for row in rows:
        if 'augmentation_share' in row:
            share = row['augmentation_share']
            yield f'Augmentation takes {share:.1%} of a step of {row["system"]} {row["precision"]}'
