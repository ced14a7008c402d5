#!/usr/bin/env python3
"""The same weights in another library, for comparison: Inception in onnxruntime.

    outside.py convert --model DIR --photo FILE --out FILE
    outside.py run FILE

convert writes the SavedModel as ONNX, once its scores of the photo are those of TensorFlow. run loads that and reads
lines "BATCH SECONDS"; to each it runs batches for so many seconds, at least three, and says "IMAGES SECONDS", as they
turned out. Pixels are random: any cost the same.
"""

import argparse
import os
import pathlib
import sys
import time

import numpy as np
import onnxruntime

TOLERANCE = 1e-4  # of a score
SIZES = (1, 2, 4, 8)


def load(model):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["scores"], {"images": images})[0]


def convert(model, photo, out):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf
    import tf2onnx

    loaded = tf.saved_model.load(str(model))
    predict = loaded.signatures["serving_default"]
    (spec,) = predict.structured_input_signature[1].values()
    graph, _ = tf2onnx.convert.from_function(tf.function(lambda images: predict(images=images)), [spec])
    content = graph.SerializeToString()

    pixels = tf.io.decode_image(photo.read_bytes(), channels=3, expand_animations=False)
    pixels = tf.image.resize(pixels, spec.shape[1:3])[None] / 255
    (want,) = predict(images=pixels).values()
    difference = np.abs(want - load(content)(pixels.numpy())).max()
    print(f"largest difference of a score: {difference:.1e}")
    if difference > TOLERANCE:
        raise SystemExit(f"scores differ by {difference}, more than {TOLERANCE}")
    out.write_bytes(content)


def run(model):
    predict = load(model)
    random = np.random.default_rng(1)
    images = {n: random.random((n, 299, 299, 3), dtype=np.float32) for n in SIZES}
    for batch in images.values():  # the first runs set memory up
        predict(batch)
        predict(batch)
    for line in sys.stdin:
        size, seconds = line.split()
        begin, runs = time.monotonic(), 0
        while runs < 3 or time.monotonic() - begin < float(seconds):
            predict(images[int(size)])
            runs += 1
        print(runs * int(size), time.monotonic() - begin, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    converter = commands.add_parser("convert")
    for name in ("model", "photo", "out"):
        converter.add_argument("--" + name, type=pathlib.Path, required=True)
    commands.add_parser("run").add_argument("model", metavar="FILE")
    a = parser.parse_args()
    if a.command == "run":
        run(a.model)
    else:
        convert(a.model, a.photo, a.out)


if __name__ == "__main__":
    main()
