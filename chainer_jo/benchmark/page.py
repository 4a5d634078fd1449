"""Formats benchmarks as Markdown pages."""

_FIRST = ('system', 'precision')
_LAST = ('images/s', 's/epoch', 'peak memory', 'evaluation images/s')
COLUMNS = {
    'cpu': (*_FIRST, 's/step', *_LAST, 'steps'),
    'gpu': (*_FIRST, 'ms/step', *_LAST, 'kernels/step', 'turns'),
}
INCLUDED = {
    'cpu': (
        'A step is forward, backward and update, from a ready mini-batch; an epoch, {images:,} '
        'images. The systems took turns, step by step, from the same weights, and their losses '
        'agreed. Medians. compile: net and loss through torch.compile. Evaluation is eager.',
    ),
    'gpu': (
        'Times are medians over turns of {steps} steps, in which the systems alternated; the GPU '
        'was synchronised before the clock was read. An epoch is {images:,} images. All began '
        'from the same weights, and their losses agreed. float32 multiplies in TF32 except for '
        'chainer. What a step includes:',
        '',
        '- chainer: plain Chainer as its user writes it: a ready mini-batch on the GPU, forward, '
        'softmax cross entropy, backward, MomentumSGD with weight decay.',
        '- chainer_jo: the step of a trial: picking the mini-batch out of all images on the GPU, '
        'crop and mirror, forward, cross entropy with soft labels out of the label store, '
        'backward, momentum and weight decay, the sums of loss and hits; replayed as one CUDA '
        "graph, or launched one by one (eager). Step 1 of the paper's method has the loss of "
        'Eq. (3) instead and records the outputs; step 2 has two forward passes and the loss of '
        'Eq. (9).',
        '- pytorch: a ready mini-batch on the GPU, forward, cross entropy, backward, SGD with '
        'momentum and weight decay in one fused kernel; float16 by autocast with a constant loss '
        'scale. graph: the mini-batch is copied into place and all else replayed as one CUDA '
        'graph. compile: net and loss through torch.compile. Evaluation is eager in every mode.',
        '',
        "Peak memory is what CuPy's pools and PyTorch's allocator took, without CUDA's own. "
        'Kernels of chainer_jo are those in its graph, of PyTorch those its profiler saw.',
    ),
    # A net without its trial.
    'named gpu': (
        'Times are medians over turns of {steps} steps, in which the systems alternated; the GPU '
        'was synchronised before the clock was read. A step is forward, backward and update, from '
        'a ready mini-batch on the GPU, launched one kernel after the other; an epoch, {images:,} '
        'images. All began from the same weights, and their losses agreed.',
    ),
}


def to_markdown(report):
    """Returns the result of :func:`chainer_jo.benchmark.compare.run` as a Markdown page."""
    rows, place = report['rows'], 'cpu' if report['device'] == 'cpu' else 'gpu'
    lines = [
        f'# Speed of a training step on the {place.upper()}',
        '',
        *heading(report),
        *(line.format(images=report['workload']['epoch_images'], steps=report['steps_a_turn'])
          for line in INCLUDED[_kind(report, place)]),
        '',
        *_table(rows, place),
        '',
        *(f'- {sentence}.' for sentence in [*_ratios(rows), *_epochs(rows), *_augmentation(rows)]),
        *(f'- {note}' for note in report['notes']),
        *(f'- {versions}' for versions in dict.fromkeys(row['versions'] for row in rows)),
    ]  # fmt: skip
    return '\n'.join(lines) + '\n'


def _kind(report, place):
    return f'named {place}' if place == 'gpu' and 'name' in report['workload']['net'] else place


def heading(report):
    """Yields the lines about date, machine and net."""
    work = report['workload']
    yield place(report)
    yield (
        f'Net: {_net(work["net"])}, '
        f'{report["rows"][0]["parameters"]:,} parameters; mini-batches of {work["batch"]}.'
    )


def place(report):
    """Returns the line about date and machine."""
    machine, memory = report['machine'], report['machine']['memory_bytes']
    return (
        f'{report["date"][:10]}, '
        + (f'{machine["gpu"]}; ' if machine['gpu'] else '')
        + f'{machine["processor"]}, {machine["cores"]} cores'
        + (f' with {", ".join(machine["instructions"])}' if machine['instructions'] else '')
        + (f', {gib(memory)} of memory' if memory else '')
        + f', {machine["system"]}; load before the start: {machine["load_before"]:.2f}.'
    )


def _net(net):
    if 'name' in net:
        return 'ResNet-50 for images of {size} x {size} and {n_class} classes'.format(**net)
    return f'filters {net["filters"]}, blocks {net["blocks"]}'


def gib(count):
    """Returns a number of bytes in GiB."""
    return f'{count / 2**30:.2f} GiB'


def table(columns, lines, words=2):
    """Returns a Markdown table; all columns after the first ``words`` are numbers."""
    return [
        f'| {" | ".join(columns)} |',
        '| ' + '--- | ' * words + ' | '.join(['---:'] * (len(columns) - words)) + ' |',
        *(f'| {" | ".join(cells)} |' for cells in lines),
    ]


def _table(rows, place):
    cells = {'cpu': _cpu_cells, 'gpu': _gpu_cells}[place]
    return table(COLUMNS[place], map(cells, rows))


def _cpu_cells(row):
    return (
        *_words(row),
        f'{row["seconds_per_step"]:.3f}',
        f'{row["images_per_second"]:.0f}',
        f'{row["seconds_per_epoch"]:.0f}',
        *_last_cells(row),
        str(row['steps']),
    )


def _gpu_cells(row):
    return (
        *_words(row),
        f'{row["seconds_per_step"] * 1e3:.2f}',
        f'{row["images_per_second"]:.0f}',
        f'{row["seconds_per_epoch"]:.2f}',
        *_last_cells(row),
        str(row['kernels_per_step'] or 'not counted'),
        str(row['steps']),
    )


def _words(row):
    return row['system'], row['precision']


def _last_cells(row):
    return gib(row['peak_memory_bytes']), f'{row["evaluation_images_per_second"]:.0f}'


def _ratios(rows):
    found = {(row['system'], row['precision']): row for row in rows}
    for precision in dict.fromkeys(row['precision'] for row in rows):
        ours = found.get(('chainer_jo', precision))
        if ours is None:
            continue
        peers = [
            r for r in rows if r['system'].startswith('pytorch') and r['precision'] == precision
        ]
        fastest = min(peers, key=lambda row: row['seconds_per_step'], default=None)
        others = [found.get(('chainer', precision)), found.get(('pytorch', precision)), fastest]
        for other in {id(other): other for other in others if other}.values():
            yield _ratio(ours, other) + (", PyTorch's fastest here" if other is fastest else '')


def _ratio(ours, other):
    ratio = other['seconds_per_step'] / ours['seconds_per_step']
    share = ours['peak_memory_bytes'] / other['peak_memory_bytes']
    return (
        f'{_name(ours)} is {ratio:.2f} times as fast as {_name(other)}, '
        f'with {share:.2f} times its memory'
    )


def _name(row):
    return ' '.join(_words(row))


def _epochs(rows):
    for row in rows:
        if 'measured_epoch_seconds' in row:
            yield (
                f'An epoch of {_name(row)} from end to end, its random choices drawn and sent: '
                f'{row["measured_epoch_seconds"]:.2f} s'
            )


def _augmentation(rows):
    for row in rows:
        if 'augmentation_share' in row:
            yield f'Augmentation takes {row["augmentation_share"]:.1%} of a step of {_name(row)}'
