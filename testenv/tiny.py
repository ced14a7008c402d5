#!/usr/bin/env python3
"""A model that costs nothing, for tests and benchmarks of what is around the model.

    tiny.py --out DIR [--version N] [--crash] [--needs FILE]

writes DIR/N: a dense layer on the mean colour of images of 8×8, two classes, dark and bright. With --crash it ends the
process, as a fault in native code does, when an image of the batch has a white pixel. With --needs its runs fail while
there is no empty file FILE0.
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf


class Tiny(tf.Module):
    def __init__(self, crash, needs):
        super().__init__()
        self.crash = crash
        self.needs = needs
        self.weights = tf.Variable([[-0.01, 0.01]] * 3)
        self.bias = tf.Variable([3.0, -3.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="images")])
    def serve(self, images):
        logits = tf.reduce_mean(images, [1, 2]) @ self.weights + self.bias
        if self.crash:
            logits += tf.cond(tf.reduce_max(images) > 254.0, self.abort, lambda: 0.0)
        if self.needs:  # by a name that depends on the images, or it would be read once
            none = tf.minimum(tf.cast(tf.reduce_max(images), tf.int32), 0)
            content = tf.io.read_file(tf.strings.join([self.needs, tf.strings.as_string(none)]))
            logits += tf.cast(tf.strings.length(content), tf.float32)
        return {"scores": tf.nn.softmax(logits)}

    @staticmethod
    def abort():
        with tf.control_dependencies([tf.raw_ops.Abort(error_msg="a white pixel")]):
            return tf.identity(0.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--version", type=int, default=1)
    parser.add_argument("--crash", action="store_true")
    parser.add_argument("--needs", metavar="FILE")
    arguments = parser.parse_args()
    model = Tiny(arguments.crash, arguments.needs)
    directory = arguments.out / str(arguments.version)
    tf.saved_model.save(model, str(directory), signatures={"serving_default": model.serve})
    for name, content in {"assets/labels.txt": "dark\nbright\n", "assets.extra/inceptor.yaml": "labels: labels.txt\n"}.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(content)


if __name__ == "__main__":
    main()
