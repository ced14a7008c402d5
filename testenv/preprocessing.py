#!/usr/bin/env python3
"""Writes what Python TensorFlow and Keras make of pictures, which inceptor's preprocessing is compared with.

    preprocessing.py --out DIR

writes OUT/pictures/, PNGs and JPEGs of odd sizes, of one row and of one column; OUT/cases.json, a list of
{name, picture, format, width, height, input, layout, dtype, at, bytes}; and OUT/numbers.bin, in which each case has the
bytes of its tensor, which begin at `at`. `input` is what inceptor.yaml says under that key to get the same tensor;
layout and dtype are what the model's own signature would say.
"""

import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

SIZES = [(11, 7), (24, 30)]  # height, width
METHODS = ["bilinear", "nearest", "bicubic", "area"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]

v1 = tf.compat.v1.image


def pictures():
    """The pictures' files, by name."""
    for name, width, height in [
        ("odd", 37, 23), ("large", 161, 107), ("same", 30, 24), ("row", 41, 1), ("column", 1, 29), ("line", 2000, 1), ("pixel", 1, 1),
    ]:
        y, x = np.mgrid[0:height, 0:width]
        noise = np.random.default_rng(width).integers(0, 256, (height, width))
        waves = 127.5 + 127.5 * np.sin(x / 3 + y / 5)
        pixels = tf.constant(np.stack([x * 255 // width, noise, waves], -1).astype(np.uint8))
        yield f"{name}.png", tf.io.encode_png(pixels).numpy()
        yield f"{name}.jpg", tf.io.encode_jpeg(pixels, quality=90).numpy()


def resize(image, size, method="bilinear"):
    return tf.cast(tf.image.resize(image, size, method), tf.float32)


def with_pad(image, size, method):
    """tf.image.resize_with_pad. It refuses a side that would become 0: inceptor makes it 1."""
    try:
        return tf.cast(tf.image.resize_with_pad(image, *size, method), tf.float32)
    except tf.errors.InvalidArgumentError:
        sides = np.array(image.shape[:2], np.float32)
        exact = sides / np.max(sides / np.array(size, np.float32))
        inner = np.maximum(1, exact.astype(np.int32))
        begin = ((np.array(size, np.float32) - exact) / 2).astype(np.int32)
        return tf.image.pad_to_bounding_box(resize(image, inner, method), *begin, *size)


def slim_inception(image, size):
    """preprocess_for_eval of slim's inception_preprocessing.py."""
    image = tf.image.convert_image_dtype(image, tf.float32)
    image = tf.image.central_crop(image, central_fraction=0.875)
    image = v1.resize_bilinear(tf.expand_dims(image, 0), size, align_corners=False)[0]
    return (image - 0.5) * 2.0


def preprocess(image, mode):
    return keras.applications.imagenet_utils.preprocess_input(np.array(image), data_format="channels_last", mode=mode)


KERAS = {  # modes of keras.applications' preprocess_input
    "caffe": {"channels": "bgr", "mean": [103.939, 116.779, 123.68]},
    "torch": {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "tf": {"scale": 1 / 127.5, "offset": -1},
}


def cases(image, size):
    """What is made of a decoded picture: name, `input` without the size, the tensor [height, width, channels]."""
    centers = {"half_pixel_centers": True}
    for method in METHODS:
        input = {"resize": method} | (centers if method != "area" else {})
        yield f"tf.image.resize {method}", input, resize(image, size, method)
        yield f"tf.image.resize_with_pad {method}", input | {"fit": "pad"}, with_pad(image, size, method)
        if method != "area":
            smart = keras.preprocessing.image.smart_resize(image, size, interpolation=method, data_format="channels_last")
            yield f"smart_resize {method}", input | {"fit": "crop"}, smart
    for align in False, True:
        for method, legacy in [
            ("bilinear", v1.resize_bilinear), ("nearest", v1.resize_nearest_neighbor), ("bicubic", v1.resize_bicubic), ("area", v1.resize_area),
        ]:
            input = {"resize": method, "align_corners": align} | ({"half_pixel_centers": False} if method != "area" else {})
            yield f"{legacy.__name__}, align_corners {align}", input, legacy(image[tf.newaxis], size, align_corners=align)[0]
    for fraction in 0.875, 0.5, 0.1:
        middle = tf.image.central_crop(image, fraction)
        yield f"central_crop {fraction}", {"crop": fraction} | centers, resize(middle, size)
        yield f"central_crop {fraction}, resize_with_pad", {"crop": fraction, "fit": "pad"} | centers, with_pad(middle, size, "bilinear")
        smart = keras.preprocessing.image.smart_resize(middle, size, data_format="channels_last")
        yield f"central_crop {fraction}, smart_resize", {"crop": fraction, "fit": "crop"} | centers, smart
    yield "slim's inception", {"crop": 0.875, "half_pixel_centers": False, "scale": 1 / 127.5, "offset": -1}, slim_inception(image, size)
    for mode, numbers in KERAS.items():
        yield f"preprocess_input {mode}", numbers | centers, preprocess(resize(image, size), mode)
        yield f"smart_resize, preprocess_input {mode}", numbers | {"fit": "crop"} | centers, preprocess(
            keras.preprocessing.image.smart_resize(image, size, data_format="channels_last"), mode
        )
        yield f"resize_with_pad, preprocess_input {mode}", numbers | {"fit": "pad"} | centers, preprocess(with_pad(image, size, "bilinear"), mode)
    gray = tf.image.rgb_to_grayscale(resize(image, size))
    yield "rgb_to_grayscale", {"channels": "gray"} | centers, gray
    yield "rgb_to_grayscale, Rescaling", {"channels": "gray", "scale": 1 / 127.5, "offset": -1} | centers, gray / 127.5 - 1


def typed(image, size):
    """The same in other types: of numbers that are whole, or computed as inceptor does, so that they round alike."""
    picked = resize(image, size, "nearest")
    centers = {"half_pixel_centers": True}
    input = {"resize": "nearest"} | centers
    for dtype in INTEGERS:
        scale = 0.25 if dtype == "int8" else 0.5
        yield input | {"scale": scale}, tf.cast(picked * scale, dtype)
    for dtype in "int8", "int16", "int32", "int64":
        yield input | {"offset": -100, "scale": 0.375}, tf.cast(picked * 0.375 - 100, dtype)
    for dtype in "uint8", "int8":
        scale = 0.5 if dtype == "int8" else 1
        sharp = resize(image, size, "bicubic") * scale
        yield centers | {"resize": "bicubic", "scale": scale}, tf.saturate_cast(sharp, dtype)
    for dtype in "float16", "bfloat16", "float64":
        yield input | {"scale": 1 / 127.5, "offset": -1}, tf.cast(picked * tf.constant(1 / 127.5) - 1, dtype)
        yield input | {"scale": 1e-6}, tf.cast(picked * tf.constant(1e-6), dtype)


def decoded_gray(content, image):
    """How far a decoder's own gray is from that of rgb_to_grayscale, at most: docs/inputs.md says it."""
    own = tf.cast(tf.io.decode_image(content, channels=1, expand_animations=False), tf.float32)
    return float(tf.reduce_max(tf.abs(own - tf.image.rgb_to_grayscale(tf.cast(image, tf.float32)))))


class Out:
    """The cases that are written."""

    def __init__(self):
        self.cases, self.numbers = [], bytearray()

    def add(self, name, picture, shape, size, input, tensor, layout="nhwc"):
        tensor = tf.convert_to_tensor(tensor)
        if layout == "nchw":
            tensor = tf.transpose(tensor, [2, 0, 1])
        if not input.keys() & {"scale", "offset", "mean"}:
            input = input | {"scale": 1}
        content = tensor.numpy().tobytes()
        self.cases.append({
            "name": name, "picture": picture, "format": "png" if picture.endswith(".png") else "jpeg", "width": shape[1], "height": shape[0],
            "input": {"size": list(size)} | input, "layout": layout, "dtype": tensor.dtype.name, "at": len(self.numbers), "bytes": len(content),
        })
        self.numbers += content


def datasets(out, folder, shapes, size, fit, **options):
    """Adds what Keras' image_dataset_from_directory makes of the pictures in a folder."""
    dataset = keras.utils.image_dataset_from_directory(
        folder, labels=None, shuffle=False, batch_size=None, image_size=size, verbose=False, **options
    )
    for file, tensor in zip(dataset.file_paths, dataset):
        name = pathlib.Path(file).name
        out.add(f"image_dataset_from_directory {fit}", name, shapes[name], size, {"fit": fit, "half_pixel_centers": True}, tensor)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    folder = arguments.out / "pictures"
    folder.mkdir(parents=True)
    out = Out()
    shapes = {}
    for name, content in pictures():
        (folder / name).write_bytes(content)
        image = tf.io.decode_image(content, channels=3, expand_animations=False)
        shapes[name] = shape = image.shape.as_list()
        if (decoded_gray(content, image) <= 1) != name.endswith(".png") and shape[0] > 1:
            sys.exit(f"preprocessing: the decoder's gray of {name} is {decoded_gray(content, image)} apart")
        for size in SIZES:
            for case, input, tensor in cases(image, size):
                out.add(case, name, shape, size, input, tensor)
                if case.startswith(("preprocess_input", "rgb_to_grayscale", "tf.image.resize_with_pad bil")):
                    out.add(case, name, shape, size, input, tensor, "nchw")
            # Pillow decodes JPEGs with another transform, and where a place falls between two pixels it may take the other.
            if name in ("odd.png", "large.png", "row.png", "column.png"):
                loaded = keras.utils.img_to_array(keras.utils.load_img(folder / name, target_size=size))
                out.add("load_img", name, shape, size, {"resize": "nearest", "half_pixel_centers": True}, loaded)
        for input, tensor in typed(image, SIZES[0]):
            out.add(f"tf.cast {tensor.dtype.name}", name, shape, SIZES[0], input, tensor)
    for size in SIZES:
        datasets(out, folder, shapes, size, "stretch")
        datasets(out, folder, shapes, size, "crop", crop_to_aspect_ratio=True)
        with tempfile.TemporaryDirectory() as some:  # of the others a side would become 0, which is refused
            for name in "odd.png", "odd.jpg", "large.png", "large.jpg", "same.png", "same.jpg":
                shutil.copy(folder / name, some)
            datasets(out, some, shapes, size, "pad", pad_to_aspect_ratio=True)
    (arguments.out / "numbers.bin").write_bytes(out.numbers)
    (arguments.out / "cases.json").write_text("[\n" + ",\n".join(map(json.dumps, out.cases)) + "\n]\n")
    print(f"{len(out.cases)} cases, {len(out.numbers)} bytes")


if __name__ == "__main__":
    main()
