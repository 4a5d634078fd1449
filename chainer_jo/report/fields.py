"""What every column of ``log.jsonl`` and every field of ``result.json`` means."""

from chainer_jo.report.markdown import header

LOG = {
    'epoch': 'epochs trained so far, over all stages; the first is 1',
    'stage': 'name of the stage, such as `correct` (step 1) or `fine_tune` (step 2)',
    'stage_epoch': 'epochs trained in this stage',
    'learning_rate': 'learning rate of this epoch',
    'main/loss': 'mean over the training images of the epoch of the loss of the stage',
    'main/accuracy': 'fraction of training images, as augmented, whose output agrees with the '
    'label in use; for mix-up alone, of mixed images and the label of the first of the two',
    'validation/main/accuracy': 'fraction of validation images classified as their label says, '
    'after the epoch',
    'test/main/accuracy': 'the same on the test images; left out without a test set',
    'label_accuracy': 'fraction of training images whose label in use is the true one, after the '
    'epoch; left out where the true labels are not known',
    'seconds': 'time of the epoch, evaluation included',
    'shared': 'the `trial` that trained this epoch for this one too, and the `digest` of all that '
    'determines the stage; left out where the trial trained it itself',
}

RESULT = {
    'schema': 'version of this list of fields',
    'trial': 'trial id: method, noise, seed, and eight digits of the digest of `config`',
    'config.preset': 'where the settings come from: a file in `chainer_jo/paper/presets`',
    'config.dataset': 'name of the data set',
    'config.noise.kind': '`symmetric`, `asymmetric`, `none` or `file`',
    'config.noise.rate': 'noise rate, a fraction; null for `none` and `file`',
    'config.noise.labels': 'SHA-256 of the labels given for noise `file`',
    'config.noise.sampling': '`exact` share of noisy labels, or `bernoulli` (D-22)',
    'config.noise.exclude_true': 'whether noise never draws the true class (D-23)',
    'config.method': 'name of the method',
    'config.seed': 'number of the trial; every random choice follows from it (D-24)',
    'config.common': 'batch size, optimizer, augmentation and split: `[common]` of '
    '`chainer_jo/paper/hyperparameters.toml`',
    'config.net': 'size of the net: `[net]` there',
    'config.stages': 'the settings of each stage, in the order of training; explained there',
    'config.precision': 'precision of the activations: `float32`, `strict_float32`, `bfloat16` '
    'or `float16`',
    'config.modified': 'overrides given with `--set`',
    'data.name': 'name of the data set',
    'data.variant': '`official`, `embedded subset`, or `variant` and eight digits of the digest',
    'data.digest': 'SHA-256 of images and labels',
    'data.train': 'number of training images',
    'data.validation': 'number of validation images',
    'data.test': 'number of test images',
    'noise.digest': 'SHA-256 of the noisy labels',
    'noise.wrong': 'fraction of training labels that are wrong before training; null where the '
    'true labels are not known',
    'best.epoch': 'the epoch of the last stage with the best validation accuracy, the first on '
    'ties (D-20)',
    'best.validation_accuracy': 'validation accuracy after that epoch',
    'best.test_accuracy': 'test accuracy after that epoch; null without a test set',
    'last.epoch': 'the last epoch',
    'last.validation_accuracy': 'validation accuracy after it',
    'last.test_accuracy': 'test accuracy after it; null without a test set',
    'label_accuracy': 'fraction of training labels that are right after the last epoch; null '
    'where the true labels are not known',
    'epochs': 'number of epochs of all stages',
    'environment.version': 'version of chainer_jo',
    'environment.python': 'version of Python',
    'environment.numpy': 'version of NumPy',
    'environment.chainer': 'version of Chainer',
    'environment.backend': 'what computed the net, with its version and threads',
    'environment.device': "Chainer's name of the device: `@numpy` is the CPU",
    'environment.machine': 'kind of processor, such as `x86_64`',
    'environment.processor': "the processor's model",
    'environment.instruction_set': 'the widest instruction set that computed',
    'environment.threads': 'number of threads that computed: chosen when the trial began, and kept',
    'environment.processes': 'number of processes that trained it together, if several did',
    'environment.cores': 'number of cores of the machine',
    'environment.graph': 'whether training steps were replayed as CUDA graphs',
    'environments': 'every environment in which the trial was trained, the last one last',
    'digests.model': 'SHA-256 of the weights and statistics of the trained net',
    'digests.labels': 'SHA-256 of the labels after the last epoch',
    'digests.log': 'SHA-256 of the bytes of `log.jsonl`',
    'times.started': 'when the process started that finished the trial',
    'times.finished': 'when it finished',
    'times.seconds': 'time of all processes in seconds, of those before up to their snapshots',
    'times.training_seconds': 'time of all epochs, in seconds, over all processes; of epochs that '
    'another trial trained, its time',
    'times.resumes': 'how often training was resumed from a snapshot',
    'shared.stage': 'the first stage, if another trial trained it; `shared` is left out if not',
    'shared.trial': 'which one did',
    'shared.digest': 'SHA-256 of all that determines the stage',
    'weights': 'SHA-256 of the file of weights that the net began with; left out without one',
    'digest': 'SHA-256 of all that stands before it in the file',
}


def explains(explained, key):
    """Returns whether a key, ``a.b.c`` for nested ones, is explained, itself or the group it is in.

    Args:
        explained (dict): :data:`LOG` or :data:`RESULT`.
    """
    parts = key.split('.')
    return any('.'.join(parts[:end]) in explained for end in range(1, len(parts) + 1))


def to_markdown():
    """Returns both lists as Markdown."""
    lines = ['## What the files say', '', 'Accuracies and rates are fractions in these files.', '']
    for name, explained, text in (
        ('log.jsonl', LOG, 'one line of JSON per epoch'),
        ('result.json', RESULT, 'written when a trial is done'),
    ):
        lines += [f'`{name}`, {text}:', '', *header([name, 'what'])]
        lines += [f'| `{key}` | {meaning} |' for key, meaning in explained.items()]
        lines.append('')
    return '\n'.join(lines[:-1]) + '\n'
