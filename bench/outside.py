#!/usr/bin/env python3
"""The same weights in another library, for comparison: Inception in onnxruntime.

    outside.py convert --model DIR --photo FILE --out FILE
    outside.py quantize --model FILE --photo FILE --images FOLDER --out FILE
    outside.py run FILE

convert writes the SavedModel as ONNX, once its scores of the photo are those of TensorFlow. quantize writes that as a
model in int8 (QDQ, as onnxruntime recommends), with the ranges of the images in a folder; the best class of the photo
must stay the same. run loads that and reads
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
SIDE = 299


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


def pixels_of(image):
    """The pixels of an image file, as inceptor.yaml of the model says."""
    from PIL import Image

    with Image.open(image) as opened:
        picture = opened.convert("RGB")
        across, down = ((n - 1) / (SIDE - 1) for n in picture.size)  # corners fall on corners
        corners = (across, 0, 0.5 - across / 2, 0, down, 0.5 - down / 2)
        resized = picture.transform((SIDE, SIDE), Image.Transform.AFFINE, corners, Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32) / 255


def quantize(model, photo, images, out):
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(quantization.CalibrationDataReader):
        files = iter(sorted(images.iterdir()))

        def get_next(self):
            file = next(self.files, None)
            return file and {"images": pixels_of(file)[None]}

    prepared = out.with_suffix(".prepared")
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared), str(out), Images(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
        reduce_range="vnni" not in pathlib.Path("/proc/cpuinfo").read_text(),  # sums of pairs saturate without it
    )  # fmt: skip
    prepared.unlink()
    pixels = pixels_of(photo)[None]
    want, got = (load(file)(pixels)[0] for file in (model, out))
    print(f"largest difference of a score: {np.abs(want - got).max():.1e}")
    if want.argmax() != got.argmax():
        raise SystemExit(f"the best class is {got.argmax()}, and {want.argmax()} in float32")


def run(model):
    predict = load(model)
    random = np.random.default_rng(1)
    images = {n: random.random((n, SIDE, SIDE, 3), dtype=np.float32) for n in SIZES}
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
    quantizer = commands.add_parser("quantize")
    for name in ("model", "photo", "images", "out"):
        quantizer.add_argument("--" + name, type=pathlib.Path, required=True)
    commands.add_parser("run").add_argument("model", metavar="FILE")
    a = parser.parse_args()
    if a.command == "run":
        run(a.model)
    elif a.command == "quantize":
        quantize(a.model, a.photo, a.images, a.out)
    else:
        convert(a.model, a.photo, a.out)


if __name__ == "__main__":
    main()
