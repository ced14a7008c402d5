#!/usr/bin/env python3
"""Exports an image classifier as a version that inceptor, and TensorFlow Serving, can serve.

The result is TensorFlow Serving's layout, so a user moves between the two without exporting again:

    DIR/VERSION/
      saved_model.pb, variables/              the SavedModel, variables kept as variables
      assets/labels.txt                       one label a line, in the order of the scores
      assets.extra/inceptor.yaml              how pixels are made from an image, for inceptor
      assets.extra/tf_serving_warmup_requests one request a signature, replayed before serving

with two signatures:

    serving_default  images       float32 [N, height, width, 3], preprocessed pixels -> scores float32 [N, classes]
    serving_bytes    image_bytes  string [N], encoded images, preprocessed in the graph -> scores float32 [N, classes]

To export a model of your own, make a `Classifier` of it and pass that to `export`.
"""

import argparse
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # an export needs no GPU

import numpy as np
import tensorflow as tf

import tfjs

# The npm package with a trained Inception v3, the digest of its tarball, and the model's classes.
PACKAGE = "nsfwjs@4.4.0"
PACKAGE_SHA256 = "585cd178f3b994337c4d10a87b080d342fc52f8b9bf0085c4d1f345a3a1c5382"
PACKAGE_MODEL = "dist/models/inception_v3"  # in the package's root
PACKAGE_LABELS = ["Drawing", "Hentai", "Neutral", "Porn", "Sexy"]


class ExportError(Exception):
    """An error that the user can correct; shown without a traceback."""


@dataclasses.dataclass
class Preprocess:
    """How an encoded image becomes the model's input. inceptor runs the same TensorFlow operations."""

    height: int = 299
    width: int = 299
    resize: str = "bilinear"  # or "area"
    align_corners: bool = False
    half_pixel_centers: bool = False  # bilinear only
    scale: float = 1.0  # pixel*scale + offset, pixel 0..255, RGB
    offset: float = 0.0

    def __call__(self, data):
        """Turns one encoded image (a scalar string tensor) into float32 [height, width, 3]."""
        # Of a GIF it takes the first frame. Like TensorFlow, it ignores EXIF orientation.
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        image = tf.cast(tf.ensure_shape(image, [None, None, 3]), tf.float32)[tf.newaxis]
        size = [self.height, self.width]
        if self.resize == "area":
            image = tf.raw_ops.ResizeArea(images=image, size=size, align_corners=self.align_corners)
        else:
            image = tf.raw_ops.ResizeBilinear(
                images=image, size=size, align_corners=self.align_corners, half_pixel_centers=self.half_pixel_centers
            )
        return image[0] * self.scale + self.offset


@dataclasses.dataclass
class Classifier:
    """A model, ready to be exported."""

    predict: Callable  # float32 [N, height, width, 3] -> float32 [N, classes]
    labels: list[str]
    preprocess: Preprocess
    variables: dict[str, tf.Variable]  # those that predict reads, by name; empty for a frozen graph


class Servable(tf.Module):
    """The saved object: two signatures, their variables and the labels."""

    def __init__(self, classifier, labels_file):
        super().__init__()
        self.labels = tf.saved_model.Asset(str(labels_file))  # copied to assets/
        self.weights = classifier.variables  # an attribute, so that it is saved
        pre = classifier.preprocess
        pixels = tf.TensorSpec([None, pre.height, pre.width, 3], tf.float32, "images")

        @tf.function(input_signature=[pixels])
        def serving_default(images):
            return {"scores": tf.ensure_shape(classifier.predict(images), [None, None])}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
        def serving_bytes(image_bytes):
            images = tf.map_fn(pre, image_bytes, fn_output_signature=tf.TensorSpec(pixels.shape[1:], tf.float32))
            return serving_default(images)

        self.serving_default, self.serving_bytes = serving_default, serving_bytes


def export(classifier, out, version=None):
    """Writes classifier to out/version and returns that path.

    The version is built, loaded and run in a hidden directory of `out`, and then renamed. So inceptor sees the whole
    version or nothing. Without a version number, export takes the next free one.
    """
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if version is None:
        version = 1 + max((int(d.name) for d in out.iterdir() if re.fullmatch(r"[0-9]+", d.name)), default=0)
    target = out / str(version)
    if target.exists():
        raise ExportError(f"{target} exists: versions are never changed, choose another --version")

    with tempfile.TemporaryDirectory(prefix=f".{version}-", dir=out) as temporary:
        labels_file = pathlib.Path(temporary, "labels.txt")
        labels_file.write_text("".join(label + "\n" for label in classifier.labels), encoding="utf-8")
        building = pathlib.Path(temporary, "version")

        servable = Servable(classifier, labels_file)
        signatures = {
            "serving_default": servable.serving_default.get_concrete_function(),
            "serving_bytes": servable.serving_bytes.get_concrete_function(),
        }
        tf.saved_model.save(servable, str(building), signatures=signatures)

        extra = building / "assets.extra"
        extra.mkdir()
        (extra / "inceptor.yaml").write_text(inceptor_yaml(classifier.preprocess, len(classifier.labels)), encoding="utf-8")
        warmup = warmup_inputs(classifier.preprocess)
        write_warmup(extra / "tf_serving_warmup_requests", warmup)

        prove(building, warmup, len(classifier.labels))
        os.rename(building, target)
    return target


def inceptor_yaml(pre, classes):
    """Returns the text of inceptor.yaml; docs/models.md explains it."""
    bilinear = ""
    if pre.resize == "bilinear":
        bilinear = f"  half_pixel_centers: {str(pre.half_pixel_centers).lower()}\n"
    return (
        "# How inceptor runs this version. Every line is optional.\n"
        "signature: serving_default # the signature to run\n"
        "input:\n"
        f"  size: [{pre.height}, {pre.width}] # height, width\n"
        f"  resize: {pre.resize} # bilinear, nearest, bicubic or area\n"
        f"  align_corners: {str(pre.align_corners).lower()}\n"
        f"{bilinear}"
        f"  scale: {pre.scale!r} # pixel*scale + offset, pixel 0..255, RGB\n"
        f"  offset: {pre.offset!r}\n"
        "output: scores # name of the signature's output with [N, classes]\n"
        "labels: labels.txt # in assets/\n"
        f"top_k: {min(5, classes)}\n"
    )


def warmup_inputs(pre):
    """Returns an input of batch 1 for each signature: the same smooth picture, encoded and as pixels."""
    y, x = np.mgrid[0:480, 0:640]
    picture = np.stack([x * 255 // 639, y * 255 // 479, (x + y) * 255 // 1118], axis=-1).astype(np.uint8)
    jpeg = tf.io.encode_jpeg(picture, quality=90)
    return {
        "serving_default": {"images": pre(jpeg)[tf.newaxis]},
        "serving_bytes": {"image_bytes": tf.reshape(jpeg, [1])},
    }


def write_warmup(path, inputs):
    """Writes TensorFlow Serving's warm-up file: a TFRecord of PredictionLog messages.

    The messages have only five fields, so this function encodes them itself: the package with their classes,
    tensorflow-serving-api, would install a second TensorFlow. On the wire a message, a string and an entry of a map
    are the same: tag, length, bytes.
    """

    def field(number, payload):
        length, varint = len(payload), bytearray()
        while length > 0x7F:
            varint.append(length & 0x7F | 0x80)
            length >>= 7
        varint.append(length)
        return bytes([number << 3 | 2]) + bytes(varint) + payload

    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, tensors in inputs.items():
            # PredictRequest: model_spec = 1 (ModelSpec: signature_name = 3), inputs = 2 (map: key = 1, value = 2)
            request = field(1, field(3, signature.encode()))
            for name, tensor in tensors.items():
                value = tf.make_tensor_proto(tensor).SerializeToString()
                request += field(2, field(1, name.encode()) + field(2, value))
            # PredictionLog: predict_log = 6 (PredictLog: request = 1)
            writer.write(field(6, field(1, request)))


def prove(directory, warmup, classes):
    """Loads the new version and runs both signatures. A version that does not answer is not published."""
    loaded = tf.saved_model.load(str(directory))
    answers = {name: loaded.signatures[name](**inputs)["scores"].numpy() for name, inputs in warmup.items()}
    for name, scores in answers.items():
        if scores.shape != (1, classes):
            raise ExportError(f"signature {name} answers {list(scores.shape)}, but there are {classes} labels")
        if not np.isfinite(scores).all():
            raise ExportError(f"signature {name} answers NaN or infinity")
    if not np.allclose(answers["serving_default"], answers["serving_bytes"], atol=1e-4):
        raise ExportError("the two signatures answer differently for the same picture")


# --weights moderation: a tfjs layers model from an npm package


def moderation(package, cache):
    """Returns the trained Inception v3 of an npm package, with five content-moderation classes."""
    say(f"read {PACKAGE}")
    topology, manifest, data = tfjs.read_package(package or fetch_package(cache), PACKAGE_MODEL, PACKAGE_SHA256)
    model = tfjs.keras_model(topology["model_config"]["config"])
    weights = tfjs.dequantize(manifest, data)
    by_name = {variable.path: variable for variable in model.weights}
    if by_name.keys() != weights.keys():
        raise ExportError(f"weights do not fit the topology: {sorted(by_name.keys() ^ weights.keys())[:4]}")
    for name, value in weights.items():
        by_name[name].assign(value)
    # The preprocessing of the training: stretched to a square with aligned corners, RGB from 0 to 1.
    return keras_classifier(model, PACKAGE_LABELS, Preprocess(align_corners=True, scale=1 / 255))


def fetch_package(cache):
    """Fetches the tarball with the npm client, unless the cache has it, and returns its path."""
    cache = pathlib.Path(cache)
    tarball = cache / (PACKAGE.replace("@", "-") + ".tgz")
    if tarball.exists():
        return tarball
    if not shutil.which("npm"):
        raise ExportError("npm is missing; it fetches the weights: apt-get install npm, or brew install node")
    cache.mkdir(parents=True, exist_ok=True)
    say(f"fetch {PACKAGE} (24 MB)")
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        command = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", temporary]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            raise ExportError(f"npm pack {PACKAGE} failed, see above")
        os.rename(pathlib.Path(temporary, tarball.name), tarball)
    return tarball


def keras_classifier(model, labels, preprocess):
    """Returns a Keras model as a Classifier, for inference: without dropout, and with the stored moments."""
    return Classifier(
        predict=lambda images: model(images, training=False),
        labels=labels,
        preprocess=preprocess,
        # The variables only: a SavedModel without the Keras layers loads faster, and without Keras.
        variables={variable.path.replace("/", "."): variable.value for variable in model.weights},
    )


# --weights imagenet: Keras' own, over the internet


def imagenet():
    """Returns Keras' Inception v3 with the 1000 ImageNet classes. Keras checks the digests of its downloads."""
    import keras

    applications = keras.applications.inception_v3
    say("fetch Inception v3 and its class index for ImageNet (Keras, needs internet)")
    try:
        model = applications.InceptionV3(weights="imagenet")
        best = applications.decode_predictions(np.eye(1000, dtype=np.float32), top=1)
    except Exception as e:
        raise ExportError(f"Keras could not fetch its weights for ImageNet (this needs internet): {e}") from e
    # Keras resizes with half-pixel centers, and its Inception takes -1..1.
    preprocess = Preprocess(half_pixel_centers=True, scale=1 / 127.5, offset=-1.0)
    return keras_classifier(model, [name for ((_, name, _),) in best], preprocess)


# --weights FILE.pb: a frozen graph


def frozen_graph(path, labels_file, input_name=None, output_name=None, size=None):
    """Returns a frozen graph, in which all variables are constants, as a Classifier. An example is inception5h."""
    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(pathlib.Path(path).read_bytes())
    except Exception as e:
        raise ExportError(f"{path} is not a frozen graph: {e}") from e
    names = {node.name: node for node in graph_def.node}
    input_name = operation(names, input_name, "Placeholder", "--input", first=True)
    output_name = operation(names, output_name, "Softmax", "--output", first=False)

    shape = [d.size for d in names[input_name].attr["shape"].shape.dim]
    stated = tuple(shape[1:3]) if len(shape) == 4 and min(shape[1:3]) > 0 else None
    height, width = size or stated or (224, 224)

    @tf.function(input_signature=[tf.TensorSpec([None, height, width, 3], tf.float32)])
    def predict(images):
        (scores,) = tf.graph_util.import_graph_def(
            graph_def, input_map={f"{input_name}:0": images}, return_elements=[f"{output_name}:0"], name=""
        )
        return scores

    try:
        classes = predict.get_concrete_function().output_shapes[-1]
    except ValueError as e:
        raise ExportError(f"{path} does not take [N, {height}, {width}, 3]: {e}") from e
    labels = pathlib.Path(labels_file).read_text(encoding="utf-8").rstrip().splitlines()
    if classes is None or len(labels) > classes:
        raise ExportError(f"{labels_file} has {len(labels)} labels, but {output_name} gives {classes} scores")
    if len(labels) < classes:  # inception5h has 1008 scores, of which only the first are named
        say(f"{labels_file} has {len(labels)} labels for {classes} scores: the other classes get numbers as names")
        labels += [f"class {i}" for i in range(len(labels), classes)]
    # inception5h's conventions: RGB 0..255 minus ImageNet's mean, classic resize. The options change them.
    return Classifier(predict, labels, Preprocess(height, width, scale=1.0, offset=-117.0), variables={})


def operation(names, name, op, option, first):
    """Returns the operation that the user named, or the only one (first) or the last one of a type."""
    if name:
        if name not in names:
            raise ExportError(f"{option} {name}: the graph has no such operation")
        return name
    found = [n for n, node in names.items() if node.op == op]
    if not found or (first and len(found) > 1):
        raise ExportError(f"the graph has {len(found)} operations of type {op} {found[:8]}: name one with {option}")
    return found[0] if first else found[-1]


def say(message):
    print(f"export: {message}", file=sys.stderr, flush=True)


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", metavar="DIR", required=True,
                        help="the model's directory: the version is written to DIR/VERSION (created if missing)")
    parser.add_argument("--version", type=int, metavar="N",
                        help="the version's number, which must be free (default: one more than the highest)")
    parser.add_argument("--weights", default="moderation", metavar="moderation|imagenet|FILE.pb",
                        help=f"moderation (default): the trained Inception v3 in npm's {PACKAGE}, five classes; "
                        "imagenet: Keras' Inception v3, 1000 classes, needs internet; FILE.pb: a frozen graph, e.g. "
                        "inception5h, with --labels")
    parser.add_argument("--package", metavar="PATH",
                        help="moderation only: the npm package as a tarball (its checksum is verified) or unpacked "
                        "(trusted as it is) (default: fetched with npm into --cache)")
    parser.add_argument("--cache", metavar="DIR", default=pathlib.Path.home() / ".cache" / "inceptor",
                        help="folder for downloads (default: %(default)s)")
    frozen = parser.add_argument_group("frozen graphs (--weights FILE.pb)")
    frozen.add_argument("--labels", metavar="FILE", help="one label a line, in the order of the scores (required)")
    frozen.add_argument("--input", metavar="OP", help="the operation to feed pixels to (default: the only Placeholder)")
    frozen.add_argument("--output", metavar="OP", help="the operation with the scores (default: the last Softmax)")
    frozen.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"),
                        help="size of the input in pixels (default: the Placeholder's shape, else 224 224)")
    prepare = parser.add_argument_group(
        "preprocessing", "The defaults are right for moderation and imagenet. For a frozen graph they are inception5h's.")
    prepare.add_argument("--resize", choices=["bilinear", "area"], help="how an image is stretched to the input's size")
    prepare.add_argument("--align-corners", action=argparse.BooleanOptionalAction,
                         help="corner pixels map to corner pixels, as resizing in TensorFlow.js models often does")
    prepare.add_argument("--half-pixel-centers", action=argparse.BooleanOptionalAction,
                         help="pixels are sampled at their centers, as tf.image.resize does; bilinear only")
    prepare.add_argument("--scale", type=float, help="pixel*SCALE + OFFSET is fed, pixel 0..255 (1/127.5 is 0.00784313725490196)")
    prepare.add_argument("--offset", type=float, help="see --scale")
    arguments = parser.parse_args(argv)  # fmt: skip

    if arguments.version is not None and arguments.version < 1:
        parser.error("--version must be at least 1")
    pb = arguments.weights.endswith(".pb")
    if not pb and arguments.weights not in ("moderation", "imagenet"):
        parser.error(f"--weights {arguments.weights}: moderation, imagenet or a FILE.pb")
    if pb and not arguments.labels:
        parser.error("--weights FILE.pb needs --labels FILE")
    if not pb and (arguments.labels or arguments.input or arguments.output or arguments.size):
        parser.error("--labels, --input, --output and --size are for --weights FILE.pb")
    return arguments


def main(argv=None):
    arguments = parse_arguments(argv)
    try:
        if arguments.weights == "moderation":
            classifier = moderation(arguments.package, arguments.cache)
        elif arguments.weights == "imagenet":
            classifier = imagenet()
        else:
            a = arguments
            classifier = frozen_graph(a.weights, a.labels, a.input, a.output, a.size)
        for name in ("resize", "align_corners", "half_pixel_centers", "scale", "offset"):
            if getattr(arguments, name) is not None:
                setattr(classifier.preprocess, name, getattr(arguments, name))
        if classifier.preprocess.align_corners and classifier.preprocess.half_pixel_centers:
            raise ExportError("--align-corners and --half-pixel-centers exclude each other")
        say("write the SavedModel, load it again and run it")
        print(export(classifier, arguments.out, arguments.version))
    except (ExportError, tfjs.ModelError, OSError) as e:
        print(f"export: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
