"""The net of a trial, by the section ``[net]`` of its settings."""

from chainer_jo.errors import ConfigError
from chainer_jo.links import pretrained
from chainer_jo.links.preact_resnet import PreActResNet
from chainer_jo.links.resnet50 import ResNet50


def weights(settings, path):
    """Returns the :class:`~chainer_jo.links.pretrained.Weights` to begin with, or ``None``.

    Args:
        settings (dict): The section ``[net]``.
        path (str): The file that the user named, or ``None``.

    Raises:
        ConfigError: A net that begins with weights has no file, or a file has no such net.
        DataError: The file is missing, damaged, or another.
    """
    wanted = settings.get('weights') == 'imagenet'
    if wanted and path is None:
        raise ConfigError(
            'this net begins with the weights of ImageNet',
            seen='no --weights FILE',
            fix=f'{pretrained.FIX}; or begin with random ones: --set net.weights=none',
        )
    if path is not None and not wanted:
        raise ConfigError(
            'this net begins with random weights',
            seen=f'--weights {path}',
            fix='leave out --weights',
        )
    return pretrained.read(path) if wanted else None


def build(settings, shape, n_class, precision, weights, rng):
    """Returns a net with its initial weights, on the host.

    Args:
        settings (dict): The section ``[net]``.
        shape (tuple): Of an image, ``(channels, H, W)``.
        n_class (int): ``C``.
        precision (str): See :class:`~chainer_jo.links.preact_resnet.PreActResNet`.
        weights (Weights): What :func:`weights` returned.
        rng (numpy.random.Generator): Draws what ``weights`` has not.

    Raises:
        ConfigError: The net is not made for such images.
    """
    if settings.get('link') != 'resnet50':
        return PreActResNet(shape[0], n_class, **settings, precision=precision, rng=rng)
    if shape[0] != 3:
        raise ConfigError(
            'ResNet-50 takes images in colour',
            seen=f'{shape[0]} channels',
            fix='choose another data set',
        )
    make = ResNet50 if weights is None else weights.build
    return make(n_class, precision=precision, rng=rng)
