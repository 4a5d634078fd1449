"""Finds wrong labels in four ways and writes how well each did: results/label_audit.md.

    bash reproduce/label_audit.sh [--data DIR]

Every way runs in a process of its own, so that time and memory are its own. Noise is drawn into the
right labels of a data set; no way is told which labels are wrong, the rate or the kind.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

import numpy as np

import chainer_jo
from chainer_jo import datasets, store
from chainer_jo.training import corrections, machine

REPOSITORY = Path(__file__).resolve().parents[1]
CLEANLAB = REPOSITORY / '.venv-cleanlab/bin/python'
OTHER = Path(__file__).with_name('label_audit_cleanlab.py')
NOISE = {
    'none': None,
    'symmetric 20 %': ('symmetric', 0.2),
    'symmetric 40 %': ('symmetric', 0.4),
    'asymmetric 30 %': ('asymmetric', 0.3),
}
FOLDS = 5
# Epochs, and after which of them the learning rate falls. The first is about as long as the paper's
# method, whose net sees an image 14 times in step 1 and, plain and mixed, twice 7 times in step 2.
# Shorter ones memorise fewer wrong labels: early stopping, which a user of cleanlab may know of.
SCHEDULES = {'cleanlab': (24, [12, 20]), 'early': (8, [4, 7])}
TITLES = {
    'ours': '`chainer_jo.correct`',
    'cleanlab': 'cleanlab, 5-fold cross-validation',
    'early': 'cleanlab, the same with nets of 8 epochs in place of 24',
    'own': "cleanlab on `chainer_jo.correct`'s probabilities",
}
COLUMNS = {
    'flagged': 'flagged',
    'precision': 'precision',
    'recall': 'recall',
    'f1': 'F1',
    'auroc': 'AUROC',
    'ap': 'average precision',
    'before': 'right before',
    'after': 'right after',
}


def ours(images, labels, seed):
    """Returns issue, score, corrected labels and probabilities of the paper's method."""
    found = chainer_jo.correct(images, labels, seed=seed, device='cpu')
    return found.is_label_issue, found.label_score, found.labels, found.probabilities


def cross_validated(images, labels, seed, epochs, divide_after):
    """Returns out-of-sample probabilities by five nets, trained on 72 % of the images each."""
    described = corrections.describe(chainer_jo.image_set(images, labels), labels)
    overrides = [
        f'cross_entropy.train.epochs={epochs}',
        f'cross_entropy.train.divide_after={divide_after}',
        'cross_entropy.train.learning_rate=0.1',
        f'common.batch_size={described.common["batch_size"]}',
    ]
    fold = np.random.default_rng(seed).permutation(len(labels)) % FOLDS
    probabilities = np.empty((len(labels), labels.max() + 1), 'f')
    for k in range(FOLDS):
        dataset = chainer_jo.image_set(images[fold != k], labels[fold != k])
        trained = chainer_jo.train(
            dataset, 'cross_entropy', seed=seed, preset='correct', overrides=overrides, device='cpu'
        )
        probabilities[fold == k] = trained.predict(images[fold == k])
    return probabilities


def cleanlab(labels, probabilities):
    """Returns cleanlab's issues and scores."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / 'given.npz', Path(folder) / 'found.npz'
        np.savez(given, labels=labels, probabilities=probabilities)
        subprocess.run([CLEANLAB, OTHER, 'issues', given, found], check=True)
        with np.load(found) as file:
            return file['issue'], file['score']


def figures(true, labels, issue, score, corrected):
    """Returns the figures of one way on one set of labels, fractions."""
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / 'given.npz'
        np.savez(given, wrong=labels != true, issue=issue, score=score)
        words = [CLEANLAB, OTHER, 'figures', given]
        found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    shares = {
        'flagged': issue.mean(),
        'before': (labels == true).mean(),
        'after': (corrected == true).mean(),
    }
    return found | {name: float(share) for name, share in shares.items()}


def cpu_seconds():
    """Returns the processor time of this process and its children: other load does not count."""
    return sum(os.times()[:4])


def measure(way, name, data, count, noise, seed):
    """Returns the figures of one way, and of cleanlab on its probabilities; one process."""
    train = datasets.load(name, data).train
    # At random, because a set may be sorted by class.
    chosen = np.sort(np.random.default_rng(0).permutation(len(train))[:count])
    images, true = train.images[chosen], train.true_labels[chosen]
    labels = true
    if NOISE[noise]:
        kind, rate = NOISE[noise]
        flips = {'flips': datasets.load(name, data).flips} if kind == 'asymmetric' else {}
        draw = getattr(chainer_jo, f'{kind}_noise')
        labels = draw(true, rate, n_class=10, rng=seed, **flips)
    begun, found = cpu_seconds(), {}
    if way == 'ours':
        issue, score, corrected, probabilities = ours(images, labels, seed)
    else:
        probabilities = cross_validated(images, labels, seed, *SCHEDULES[way])
        issue, score = cleanlab(labels, probabilities)
        corrected = np.where(issue, probabilities.argmax(axis=1), labels)
    seconds = cpu_seconds() - begun
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found[way] = figures(true, labels, issue, score, corrected)
    place = machine.processor()['processor']
    found[way] |= {'seconds': seconds, 'bytes': memory, 'processor': place}
    if way == 'ours':
        issue, score = cleanlab(labels, probabilities)
        corrected = np.where(issue, probabilities.argmax(axis=1), labels)
        found['own'] = figures(true, labels, issue, score, corrected)
    return found


def page(records):
    """Returns the table as Markdown."""
    lines = [
        '# How well wrong labels are found',
        '',
        f'Made by `bash reproduce/label_audit.sh`, one thread. chainer_jo '
        f'{chainer_jo.__version__}, cleanlab 2.9.0. Fashion-MNIST: the 6,000 images of the '
        'package; CIFAR-10: 10,000 of the training images of the data set that each row '
        'names; or as many as a title says. Percent, mean ± sample standard deviation over seeds. '
        '"flagged" is the share taken for wrong; "right" the share of labels that are right before '
        'and after correction. CPU seconds and memory are those of the seeds of which both ways '
        'ran on the same processor.',
    ]
    sets = dict.fromkeys((record['data'], record['noise']) for record in records)
    for data, noise in sets:
        own = [r for r in records if (r['data'], r['noise']) == (data, noise)]
        together = _on_one_processor(own)
        lines += ['', f'## {data}, {noise}', '', _made_on(own, together), '']
        lines += [f'| way | {" | ".join(COLUMNS.values())} | CPU seconds | memory |']
        lines += ['| --- ' + '| ---: ' * (len(COLUMNS) + 2) + '|']
        for way, title in TITLES.items():
            found = [record['figures'][way] for record in own if way in record['figures']]
            if found:
                cells = [_spread([one.get(key) for one in found]) for key in COLUMNS]
                found = [r['figures'][way] for r in together if way in r['figures']]
                cells += [_cost(found, 'seconds', 1, ''), _cost(found, 'bytes', 2**30, ' GiB')]
                lines.append(f'| {title} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def _on_one_processor(records):
    """Returns those of which both ways ran on the same processor, of the one that most ran on."""
    groups = {}
    for record in records:
        places = [way.get('processor') for way in record['figures'].values()]
        places = {place for place in places if place}
        if len(places) == 1 and {'ours', 'cleanlab'} <= record['figures'].keys():
            groups.setdefault(places.pop(), []).append(record)
    return max(groups.values(), key=len, default=[])


def _made_on(records, together):
    """Returns the sentences about seeds, processors and time."""
    ways = [way for record in records for way in record['figures'].values()]
    on = dict.fromkeys(way['processor'] for way in ways if 'processor' in way)
    text = f'{_seeds(records).capitalize()}, on {" and ".join(on)}.'
    if together:
        ours, other = (
            sum(record['figures'][way]['seconds'] for record in together)
            for way in ('ours', 'cleanlab')
        )
        place = together[0]['figures']['ours']['processor']
        text += (
            f' CPU seconds of {_seeds(together)}, on {place}: `chainer_jo.correct` takes '
            f"{ours / other:.2f} of cleanlab's."
        )
    return text


def _seeds(records):
    seeds = sorted({record['seed'] for record in records})
    return f'seed{"s" if len(seeds) > 1 else ""} {", ".join(map(str, seeds))}'


def _spread(values):
    if None in values:
        return ''
    text = f'{100 * mean(values):.1f}'
    return text + (f' ± {100 * stdev(values):.1f}' if len(values) > 1 else '')


def _cost(found, key, unit, name):
    values = [one[key] / unit for one in found if key in one]
    return f'{mean(values):.{0 if unit == 1 else 2}f}{name}' if values else ''


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--data', help='CIFAR-10, for its rows')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--images', type=int, help='so many (default: 6,000; of CIFAR-10 10,000)')
    parser.add_argument('--noise', choices=NOISE, action='append', help='rows (default: all)')
    parser.add_argument('--out', type=Path, default=REPOSITORY / 'results')
    parser.add_argument('--one', nargs=6, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        way, name, data, count, noise, seed = given.one
        print(json.dumps(measure(way, name, data or None, int(count), noise, int(seed))))
        return
    path = given.out / 'label_audit.json'
    records = json.loads(path.read_text()) if path.exists() else []
    sets = [('fashion_mnist', '', 6000)] + ([('cifar10', given.data, 10_000)] if given.data else [])
    for seed in given.seeds:
        for name, data, count in sets:
            dataset = datasets.load(name, data or None)
            title = f'{datasets.TITLES[name]}, {dataset.variant}'
            title += f', {given.images:,} images' if given.images else ''
            for noise in given.noise or NOISE:
                for way in ('ours', *SCHEDULES):
                    key = {'data': title, 'noise': noise, 'seed': seed}
                    record = next((r for r in records if r | key == r), None)
                    if record is None:
                        records.append(record := key | {'figures': {}})
                    if way in record['figures']:
                        continue
                    words = [sys.executable, __file__, '--one', way, name, data]
                    words.append(str(given.images or count))
                    said = subprocess.run(
                        [*words, noise, str(seed)], check=True, stdout=subprocess.PIPE, text=True,
                        env=os.environ | dict.fromkeys(machine.THREAD_VARIABLES, '1'),
                    ).stdout  # fmt: skip
                    record['figures'] |= json.loads(said.splitlines()[-1])
                    store.write_json(path, records)
                    store.write_text(given.out / 'label_audit.md', page(records))
                    print(f'{title}, {noise}, seed {seed}: {way}', flush=True)


if __name__ == '__main__':
    main()
