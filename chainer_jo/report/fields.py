"""The meaning of every column of ``log.jsonl`` and every field of ``result.json``."""

from chainer_jo.report.markdown import header

LOG = {
    'epoch': 'number of epochs trained so far, over all stages; 1 for the first',
    'stage': 'name of the stage, such as `correct` (step 1) or `fine_tune` (step 2)',
    'stage_epoch': 'number of epochs trained so far in this stage',
    'learning_rate': 'learning rate of this epoch',
    'main/loss': "the stage's loss, mean over the training images of the epoch",
    'main/accuracy': 'fraction of augmented training images for which the net predicts the '
    'current label; for mix-up alone, the mixed images and the labels of the first image of each '
    'pair',
    'validation/main/accuracy': 'fraction of validation images for which the net predicts the '
    'label, after the epoch',
    'test/main/accuracy': 'the same on the test images; left out without a test set',
    'label_accuracy': 'fraction of training images whose current label is the true one, after the '
    'epoch; left out if the true labels are not known',
    'unreadable': 'number of training images that blank images have replaced since the trial was '
    'last started, because their files could not be read; left out if none',
    'seconds': 'time of the epoch, including evaluation',
    'shared': 'if another trial trained this epoch for both: that `trial`, and the `digest` of all '
    'that determines the stage; left out otherwise',
}

RESULT = {
    'schema': 'version of this set of fields',
    'trial': 'trial id: method, noise, seed, and eight digits of the digest of `config`',
    'config.preset': 'preset of the settings: a file in `chainer_jo/paper/presets`',
    'config.dataset': 'name of the data set',
    'config.noise.kind': '`symmetric`, `asymmetric`, `none` or `file`',
    'config.noise.rate': 'noise rate, a fraction; null for `none` and `file`',
    'config.noise.labels': 'SHA-256 of the given labels, for noise `file`',
    'config.noise.sampling': '`exact` share of noisy labels, or `bernoulli` (D-22)',
    'config.noise.exclude_true': 'whether the noise never draws the true class (D-23)',
    'config.method': 'name of the method',
    'config.seed': 'number of the trial, which determines every random choice (D-24)',
    'config.common': 'batch size, optimizer, augmentation and split: `[common]` of '
    '`chainer_jo/paper/hyperparameters.toml`',
    'config.net': 'size of the net: `[net]` in that file',
    'config.stages': 'settings of each stage, in the order of training; explained in that file',
    'config.precision': 'precision of the activations: `float32`, `strict_float32`, `bfloat16` '
    'or `float16`',
    'config.modified': 'overrides given with `--set`',
    'data.name': 'name of the data set',
    'data.variant': '`official`, `official without` a number of unusable images, '
    '`embedded subset`, or `variant` and eight digits of the digest',
    'data.digest': 'SHA-256 of images and labels',
    'data.train': 'number of training images',
    'data.validation': 'number of validation images',
    'data.test': 'number of test images',
    'noise.digest': 'SHA-256 of the noisy labels',
    'noise.wrong': 'fraction of training labels that are wrong before training; null if the true '
    'labels are not known',
    'best.epoch': 'the epoch of the last stage with the best validation accuracy; the first one '
    'on a tie (D-20)',
    'best.validation_accuracy': 'validation accuracy after that epoch',
    'best.test_accuracy': 'test accuracy after that epoch; null without a test set',
    'last.epoch': 'the last epoch',
    'last.validation_accuracy': 'validation accuracy after it',
    'last.test_accuracy': 'test accuracy after it; null without a test set',
    'label_accuracy': 'fraction of training labels that are correct after the last epoch; null if '
    'the true labels are not known',
    'epochs': 'total number of epochs of all stages',
    'environment.version': 'version of chainer_jo',
    'environment.source': "first 12 digits of the SHA-256 of the package's code and settings",
    'environment.python': 'version of Python',
    'environment.numpy': 'version of NumPy',
    'environment.chainer': 'version of Chainer',
    'environment.backend': 'the backend that computed the net, with its version and threads',
    'environment.device': "Chainer's name of the device: `@numpy` is the CPU",
    'environment.machine': 'kind of processor, such as `x86_64`',
    'environment.processor': "the processor's model",
    'environment.instruction_set': 'the widest instruction set in use',
    'environment.threads': 'number of threads; chosen at the start of the trial, and kept',
    'environment.processes': 'number of processes that trained the trial together, if several',
    'environment.cores': 'number of cores of the machine',
    'environment.gpu': 'model of the GPU, if one was used',
    'environment.cupy': 'version of CuPy, if a GPU was used',
    'environment.cuda': 'version of the compiler of CUDA kernels (NVRTC), if a GPU was used',
    'environment.graph': 'whether training steps were replayed as CUDA graphs',
    'environments': 'all environments in which the trial was trained, in order',
    'digests.model': 'SHA-256 of the weights and statistics of the trained net',
    'digests.method': "SHA-256 of the method's own values, if they take part in its predictions",
    'digests.labels': 'SHA-256 of the labels after the last epoch',
    'digests.log': 'SHA-256 of the bytes of `log.jsonl`',
    'times.started': 'start time of the process that finished the trial',
    'times.finished': 'time at which it finished',
    'times.seconds': 'total time of all processes, in seconds; earlier processes count up to their '
    'snapshots',
    'times.training_seconds': 'total time of all epochs, in seconds, over all processes; for '
    'epochs that another trial trained, the time they took there',
    'times.resumes': 'how often training was resumed from a snapshot',
    'shared.stage': 'the first stage, if another trial trained it; otherwise there is no `shared`',
    'shared.trial': 'the trial that trained it',
    'shared.digest': 'SHA-256 of all that determines the stage',
    'weights': 'SHA-256 of the file of initial weights; left out if there is none',
    'digest': 'SHA-256 of everything that precedes it in the file',
}


def to_markdown():
    """Returns both lists as Markdown."""
    lines = ['## The fields of the files', '', 'Accuracies and rates are fractions here.', '']
    for name, explained, text in (
        ('log.jsonl', LOG, 'one line of JSON per epoch'),
        ('result.json', RESULT, 'written at the end of a trial'),
    ):
        lines += [f'`{name}`, {text}:', '', *header([name, 'meaning'])]
        lines += [f'| `{key}` | {meaning} |' for key, meaning in explained.items()]
        lines.append('')
    return '\n'.join(lines[:-1]) + '\n'
