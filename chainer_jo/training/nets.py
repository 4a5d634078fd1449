"""Builds the net of a trial from the section ``[net]`` of its settings."""

from chainer_jo.errors import ConfigError
from chainer_jo.links import pretrained
from chainer_jo.links.preact_resnet import PreActResNet
from chainer_jo.links.resnet50 import ResNet50

#: Nets that start from random weights, by their name in the settings.
LINKS = {'preact_resnet': PreActResNet}


def weights(settings, path):
    """Returns the initial :class:`~chainer_jo.links.pretrained.Weights`, or ``None``.

    Args:
        settings (dict): The section ``[net]``.
        path (str): The file that the user named, or ``None``.

    Raises:
        ConfigError: The net starts from pretrained weights and no file is named, or the reverse.
        DataError: The file is missing, damaged, or not one of such weights.
    """
    wanted = settings.get('weights') == 'imagenet'
    if wanted and path is None:
        raise ConfigError(
            'this net starts from weights trained on ImageNet',
            seen='no --weights FILE',
            fix=f'{pretrained.FIX}; or start from random weights: --set net.weights=none',
        )
    if path is not None and not wanted:
        raise ConfigError(
            'this net starts from random weights',
            seen=f'--weights {path}',
            fix='leave out --weights',
        )
    return pretrained.read(path) if wanted else None


def build(settings, shape, n_class, precision, weights, rng):
    """Returns a net with its initial weights, on the host.

    Args:
        settings (dict): The section ``[net]``.
        shape (tuple): Shape of an image, ``(channels, H, W)``.
        n_class (int): ``C``.
        precision (str): See :class:`~chainer_jo.links.preact_resnet.PreActResNet`.
        weights (Weights): As :func:`weights` returned them.
        rng (numpy.random.Generator): Draws the weights that ``weights`` does not have.

    Raises:
        ConfigError: The net cannot take such images.
    """
    link = settings.get('link', 'preact_resnet')
    if link in LINKS:
        own = {name: value for name, value in settings.items() if name != 'link'}
        return LINKS[link](shape[0], n_class, **own, precision=precision, rng=rng)
    if shape[0] != 3:
        raise ConfigError(
            'ResNet-50 needs colour images',
            seen=f'{shape[0]} channels',
            fix='choose another data set',
        )
    make = ResNet50 if weights is None else weights.build
    return make(n_class, precision=precision, rng=rng)
