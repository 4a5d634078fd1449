"""Runs one trial from its configuration to ``result.json``. A killed trial can be resumed."""

import functools
from dataclasses import dataclass

import chainer
import numpy as np
from chainer import training

from chainer_jo import backends, datasets, methods, paper, store
from chainer_jo.datasets.label_files import save_noise
from chainer_jo.errors import ConfigError, DataError, OutOfMemoryError, excerpt
from chainer_jo.links import pretrained
from chainer_jo.training import data as trial_data
from chainer_jo.training import device as devices
from chainer_jo.training import (
    extensions,
    failure,
    finished,
    nets,
    result,
    snapshot,
    state,
    tensorboard,
)
from chainer_jo.training import machine as machines
from chainer_jo.training.assembly import assemble
from chainer_jo.training.epoch_tables import images_per_epoch
from chainer_jo.training.neighbours import NoticeNeighbours
from chainer_jo.training.processes import ALONE, check_batch, check_size
from chainer_jo.training.shared_stage import SharedStage
from chainer_jo.training.updaters import LabelCorrectionUpdater


def _nobody(*_):
    """Does nothing; the default callback."""


@dataclass
class Observer:
    """Callbacks that report progress. They do not change the result.

    Attributes:
        start: Called with the number of epochs of all stages and the rows of completed epochs.
        epoch: Called with each new log row.
        warn: Called with a line of text.
        begin: Called once per process, before its first step, with a dict: ``trial``; ``data``, the
            title of the data set; ``variant``; ``images``, the number of training images;
            ``wrong``, the share of wrong labels, or ``None``; ``method``, its title; ``stages``,
            epochs by name; ``steps_per_epoch``, rounded up; ``environment``, see
            :func:`~chainer_jo.training.result.environment`; ``out``, the trial's folder.
        download: Called during a download with the name of the file, the bytes downloaded so far,
            and the size of the file in bytes.
        step: Called about twice a second at most; see
            :class:`~chainer_jo.training.extensions.Progress`.
    """

    start: object = _nobody
    epoch: object = _nobody
    warn: object = _nobody
    begin: object = _nobody
    step: object = _nobody
    download: object = _nobody


def run(config, machine, observer, labels=None, dataset=None):
    """Runs a trial, or resumes it, and returns its result.

    Args:
        config (TrialConfig): The trial.
        machine (Machine): Device, data and output folder.
        observer (Observer): Callbacks for progress.
        labels (numpy.ndarray): Noisy labels of the data set's training images, ``(N,)``, for the
            noise ``file``.
        dataset (Dataset): The data set, if it is loaded already; otherwise it is loaded from
            ``machine.data``.

    Returns:
        dict: The content of ``result.json``; see :mod:`chainer_jo.training.result`.

    Raises:
        ChainerJoError: See :mod:`chainer_jo.errors`. After a stop or divergence the last snapshot
            is kept.
    """
    folder, ranks = machine.folder(config.trial), machine.ranks or ALONE
    done = folder / 'result.json'
    # Checked before the folder is made, so that a trial that cannot be trained leaves no files.
    if not ranks.lead(done.exists):
        check_batch(config.common['batch_size'], ranks.size)
        if dataset is None:
            # Rank 0 loads first, so that missing data are downloaded only once.
            dataset = ranks.rank_0_first(lambda: _load(config, machine, observer))
        data = trial_data.prepare(dataset, config, labels)
        method = methods.load(config.method)
        trial_data.check(data, config.method, method.uses_true_T(config.stages), method.pins)
        weights = nets.weights(config.net, machine.weights)
        if machine.tensorboard:
            tensorboard.check()
        if not ranks.lead((folder / 'config.json').exists):
            backends.check_threads(machine.threads or machines.threads())
    with ranks.led(store.lock(folder)):
        if ranks.lead(done.exists):
            return ranks.lead(lambda: _finished(config, machine, observer, dataset, folder))
        try:
            trial = _Trial(config, machine, observer, dataset, data, weights, folder)
            with backends.using_threads(trial.threads):
                return trial.run()
        # CuPy's OutOfMemoryError is a MemoryError too.
        except MemoryError as error:
            where = 'the GPU' if 'cupy' in type(error).__module__ else 'this machine'
            raise OutOfMemoryError(
                f'the memory of {where} is full',
                seen=str(error),
                fix='run the same command with fewer --jobs, which resumes from the last snapshot, '
                f'or a smaller trial: --set common.batch_size={config.common["batch_size"] // 2}',
            ) from error


def _load(config, machine, observer):
    return datasets.load(config.dataset, machine.data, observer.download, observer.warn)


def _finished(config, machine, observer, dataset, folder):
    """Returns the result of a finished trial, if it was made from these data.

    Snapshots are deleted only after the result and its log have been verified.
    """
    path = folder / 'result.json'
    found = store.read_sealed(path)
    # A folder of files may have been copied or renamed.
    if found['trial'] != config.trial:
        raise DataError(
            f'{path} is the result of another trial',
            seen=found['trial'],
            fix='move the file where it belongs, and run the same command again',
        )
    store.read_known(folder / 'log.jsonl', found['digests'].get('log'))
    try:
        # No data set is downloaded just to read a finished trial.
        if dataset is None and datasets.at_hand(config.dataset, machine.data):
            dataset = datasets.load(config.dataset, machine.data)
    except DataError as error:
        made_from = f'{found["data"]["variant"]}, digest {found["data"]["digest"]}'
        observer.warn(f'{error.problem}: the result is from {config.dataset} {made_from}')
    weights = pretrained.read(machine.weights).digest if machine.weights else None
    finished.check_origin(
        folder, finished.origin(found), {'data': dataset and dataset.digest, 'weights': weights}
    )
    snapshot.remove_all(folder)
    # Its process may have been killed after it had written the result.
    failure.forget(folder)
    return found


class _Trial:
    def __init__(self, config, machine, observer, dataset, data, weights, folder):
        self.clock, self.folder, self.observer = result.Clock(), folder, observer
        self.weights = weights
        self.begins_with = {'weights': weights.digest} if weights else {}
        self.config, self.machine, self.dataset, self.data = config, machine, dataset, data
        self.ranks = machine.ranks or ALONE
        self.identity = store.digest(
            config.as_dict(),
            dataset.digest,
            result.SCHEMA,
            snapshot.FORMAT,
            *self.begins_with.values(),
        )
        self._saved = None
        self.head, self.threads, self.noise_digest = self.ranks.lead(self._open)

    def _open(self):
        """Reads the state of the trial from its folder, and writes its configuration and noise."""
        failure.forget(self.folder)
        begun, train = self._read_config(), self.data.train
        arrays = snapshot.read_newest(self.folder, self.identity, self.observer.warn)
        if arrays:
            # Needed if config.json is missing.
            begun = snapshot.environments(arrays)[-1] | begun
        if begun:
            check_size(self.folder, begun.get('processes', 1), self.ranks)
        threads = self._threads(begun.get('threads'))
        # Without a snapshot the log starts anew, on this device alone.
        self._write_config(threads, begun if arrays else {})
        noise_digest = save_noise(
            self.folder / 'noisy_labels.arrays',
            train.labels,
            self.data.true_labels,
            train.places(),
        )
        # Only its head is shared with all ranks now; _restore hands out the rest.
        self._saved = arrays
        return arrays and snapshot.head(arrays), threads, noise_digest

    def _read_config(self):
        """Returns the ``config.json`` of a trial that has begun, which must match, or ``{}``."""
        path = self.folder / 'config.json'
        if not path.exists():
            return {}
        seen, problem = store.read_unsealed(path)
        # Not compared: they may differ without changing the trial, such as the path of the labels.
        own = ('labels_file', 'threads', 'processes', 'place')
        compared = {k: v for k, v in seen.items() if k not in own}
        differs = _difference(compared, self._content())
        if problem:
            raise DataError(
                f'{path} has been altered',
                seen=f'{problem}; {differs}' if differs else problem,
                fix='delete it: the same command writes it again',
            )
        if differs:
            raise ConfigError(
                f'{self.folder} was begun with other data or settings',
                seen=differs,
                fix='use the same data, or choose another folder with --out',
            )
        return seen

    def _content(self):
        return self.config.as_dict() | {'data': self.dataset.digest} | self.begins_with

    def _threads(self, begun):
        """Returns the threads with which the trial began, or those of this machine if it is new."""
        asked = self.machine.threads
        if begun and asked and asked != begun:
            self.observer.warn(
                f'{self.config.trial}: continues with {begun} threads, as it began, not {asked}: '
                'the last digits depend on the number'
            )
        return begun or asked or machines.threads()

    def _write_config(self, threads, begun):
        # Recorded because the times in its log hold for this device and processor only.
        device = devices.choose(self.machine.device, self.machine.backend)
        place = {
            'device': device,
            'backend': backends.name_on(device),
            'processor': machines.processor()['processor'],
        }
        if begun and begun.get('place') != place:
            # Its log then mixes the times of several devices.
            place = {}
        content = self._content() | self.config.as_record() | {'threads': threads, 'place': place}
        if self.ranks.size > 1:
            content['processes'] = self.ranks.size
        store.write_sealed(self.folder / 'config.json', content)

    def run(self):
        self.assembly = assemble(self.config, self.data, self.machine, self.weights)
        self.method = self.assembly.method
        self.neighbours = NoticeNeighbours(self.config.trial, self.threads, self.observer.warn)
        head = self.head
        resumes = int(head['resumes']) + 1 if head else 0
        self.clock.before = snapshot.seconds(head) if head else 0.0
        environments = self._environments(snapshot.environments(head) if head else [])
        shared = self._shared_stage(environments[-1])
        if shared and not head:
            head = self._saved = shared.take(self.observer.warn)
        rows = snapshot.rows(head) if head else []
        self.observer.start(self.config.epochs, rows)
        self.observer.begin(self._facts(environments[-1]))
        # Not Chainer's snapshot extension: its file does not say to which settings and data it
        # belongs.
        saver = snapshot.Snapshot(
            self.folder,
            self.identity,
            rows,
            environments,
            resumes,
            self.machine.snapshot_seconds,
            self.clock.spent,
            self.ranks,
        )
        stages = list(self.config.stages)
        first = stages.index(str(head['stage'])) if head else 0
        bound = backends.binding_threads(self.assembly.device.name, self.threads)
        # Chainer would check shapes and dtypes in every call of every step, but they never change.
        with bound, saver, chainer.using_config('type_check', False):
            for stage in stages[first:]:
                path = self._run_stage(self._updater(stage, rows, head is not None), rows, saver)
                head = None
                if shared and stage == stages[0]:
                    shared.offer(path)
        return self.ranks.lead(lambda: self._finish(rows, environments, resumes))

    def _shared_stage(self, environment):
        """Returns the :class:`SharedStage` of the trial, or ``None`` if nothing is shared."""
        if not self.machine.share or len(self.config.stages) == 1 or self.ranks.size > 1:
            return None
        return SharedStage(
            self.machine.out, self.config, self.method, self.dataset.digest, environment
        )

    def _environments(self, before):
        """Appends this process's environment to the earlier ones; warns if it differs from them."""
        present = result.environment(
            self.assembly.device, self.assembly.capturer is not None, self.threads, self.ranks.size
        )
        # A machine without a GPU, or one process, does not record all of them.
        last = before[-1] if before else {}
        changed = [name for name in present if name in last and present[name] != last[name]]
        if changed:
            was = ', '.join(f'{name} {last[name]}' for name in changed)
            now = ', '.join(f'{name} {present[name]}' for name in changed)
            self.observer.warn(
                f'{self.config.trial}: began with {was}; continues with {now}. Its result '
                'will equal that of neither.'
            )
        return [other for other in before if not other.items() <= present.items()] + [present]

    def _facts(self, environment):
        config, train = self.config, self.assembly.train
        common = config.common
        return {
            'trial': config.trial,
            'data': datasets.TITLES.get(self.dataset.name, self.dataset.name),
            'variant': self.dataset.variant,
            'images': len(train),
            'wrong': self.data.wrong,
            'method': paper.methods()[config.method],
            'stages': {name: stage['epochs'] for name, stage in config.stages.items()},
            'steps_per_epoch': -(-images_per_epoch(len(train), common) // common['batch_size']),
            'environment': environment,
            'out': str(self.folder),
        }

    def _updater(self, stage, rows, saved):
        """Returns the updater of a stage: restored from the snapshot, or before its first step."""
        updater = self.assembly.updater(stage)
        if saved:
            self._restore(updater)
            updater.restored(sum(row['stage'] == stage for row in rows))
        elif self.config.stages[stage].get('start') == 'fresh':
            self.assembly.start_anew(stage)
        return updater

    def _run_stage(self, updater, rows, saver):
        settings = self.config.stages[updater.method.stage]
        self.ranks.begin(updater)
        trainer = training.Trainer(
            updater,
            lambda _: updater.epoch >= settings['epochs'] and not updater.in_epoch_end,
            self.folder,
        )
        for extension in self._extensions(updater, rows, saver):
            # With equal priorities Chainer keeps the order in which extensions are added.
            trainer.extend(extension, priority=training.PRIORITY_READER)
        trainer.run(show_loop_exception_msg=False)
        return saver.save(updater)

    def _restore(self, updater):
        try:
            state.restore(updater, self.ranks.hand_out(self._saved, updater))
        # Identity and digest are right, but this package did not write these arrays.
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f'the snapshot in {self.folder} does not fit the net',
                seen=excerpt(f'{type(error).__name__}: {error}', 200),
                fix='delete the snapshots there and run the same command again',
            ) from error
        # Frees the copies of net and labels, which would otherwise stay in memory to the end.
        self._saved = None

    def _extensions(self, updater, rows, saver):
        """Yields the extensions in the order in which they run after a step."""
        if self.ranks.size > 1:
            yield extensions.JoinRanks(self.ranks)
        between = functools.partial(saver.stop_between_batches, updater)
        for evaluator in self.assembly.evaluators:
            evaluator.between = between
            yield evaluator
        if isinstance(updater, LabelCorrectionUpdater):
            yield extensions.CorrectLabels()
        yield extensions.EndEpoch(self.config.seed, between)
        if self.assembly.true_labels is not None:
            yield extensions.MeasureLabels(self.assembly.true_labels)
        yield extensions.Guard()
        log = None if self.ranks.rank else self.folder / 'log.jsonl'
        yield extensions.Log(log, rows, self.observer.epoch)
        if self.machine.tensorboard and self.ranks.rank == 0:
            yield tensorboard.TensorBoard(self.folder, rows)
        yield extensions.Schedule()
        yield extensions.Progress(self.observer.step, self.config.stages)
        if self.threads > 1 and self.assembly.device.xp is np:
            yield self.neighbours
        yield saver

    def _finish(self, rows, environments, resumes):
        model = state.on_host(self.method.net)
        y = chainer.get_device('@numpy').send(self.method.labels.y)
        store.write_arrays(self.folder / 'model.arrays', model)
        own = state.own_of(self.method)
        if own:
            store.write_arrays(self.folder / 'method.arrays', own)
        store.write_arrays(self.folder / 'labels.arrays', {'y': y})
        log = extensions.log_text(rows)
        # Written again: if the trial was killed after its last epoch, the log on disk may be that
        # of another process.
        store.write_text(self.folder / 'log.jsonl', log)
        made = (
            result.result(
                self.config,
                self.dataset,
                self.data,
                self.noise_digest,
                rows,
                environments,
                result.digests(model, y, log.encode(), own),
                self.clock.times(rows, resumes),
            )
            | self.begins_with
        )
        store.write_sealed(self.folder / 'result.json', made)
        snapshot.remove_all(self.folder)
        return made


def _difference(seen, content):
    """Returns the full name and both values of the first setting that differs, or ``None``."""
    for key in sorted(seen.keys() | content.keys()):
        before, now = seen.get(key), content.get(key)
        if isinstance(before, dict) and isinstance(now, dict) and before != now:
            return f'{key}.{_difference(before, now)}'
        if before != now:
            return f'{key} {before}, now {now}'
    return None
