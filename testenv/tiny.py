#!/usr/bin/env python3
"""A model that costs nothing, for tests and benchmarks of what is around the model.

    tiny.py --stdin
    tiny.py --out DIR [--version N] [--kind image|convolutions|dense|mixed|example] [--crash | --overflow | --hang FILE]
            [--hungry] [--needs FILE]

writes DIR/N; with --stdin, what the lines say, each a JSON array of the options of one model, and answers each with a line: an
error, or nothing. What it is for:

    image    images of 8×8: a dense layer on the mean colour, two classes, dark and bright. With --crash it ends the process,
             as a fault in native code does, when an image of the batch has a white pixel; with --overflow a thread of
             TensorFlow's has no stack left then; with --hang it makes FILE, and does not end. With --hungry it takes 2.8 GB
             for a batch whose brightest pixel is 253. With --needs its runs fail while there is no empty file FILE0.
    convolutions
             images of 48×48: the same as image, behind four convolutions that keep an image of one grey as it is. With
             --outlier one channel of a layer is 10,000 times as large as the others, so that 8 bits cannot hold both.
    dense    rows of 32 numbers: two dense layers, ten classes without labels
    mixed    rows of several inputs: one value, age / 2 + the sum of two numbers + 100 if member + the length of word
    example  tf.Examples with two numbers x: dark and bright
"""

import argparse
import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf


class Tiny(tf.Module):
    def __init__(self, crash, overflow, hang, hungry, needs):
        super().__init__()
        self.crash = crash
        self.overflow = overflow
        self.hang = hang
        self.hungry = hungry
        self.needs = needs
        self.weights = tf.Variable([[-0.01, 0.01]] * 3)
        self.bias = tf.Variable([3.0, -3.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="images")])
    def serve(self, images):
        logits = tf.reduce_mean(images, [1, 2]) @ self.weights + self.bias
        white = tf.reduce_max(images)
        if self.crash:
            logits += tf.cond(white > 254.0, self.abort, lambda: 0.0)
        if self.overflow:
            logits += tf.cond(white > 254.0, self.nest, lambda: 0.0)
        if self.hang:
            logits += tf.cond(white > 254.0, lambda: self.stay(white), lambda: 0.0)
        if self.hungry:
            logits += tf.cond(tf.equal(tf.round(white), 253.0), lambda: self.devour(white), lambda: 0.0)
        if self.needs:  # by a name that depends on the images, or it would be read once
            none = tf.minimum(tf.cast(tf.reduce_max(images), tf.int32), 0)
            content = tf.io.read_file(tf.strings.join([self.needs, tf.strings.as_string(none)]))
            logits += tf.cast(tf.strings.length(content), tf.float32)
        return {"scores": tf.nn.softmax(logits)}

    @staticmethod
    def abort():
        with tf.control_dependencies([tf.raw_ops.Abort(error_msg="a white pixel")]):
            return tf.identity(0.0)

    @staticmethod
    def nest():
        def empty():
            return tf.raw_ops.EmptyTensorList(element_shape=-1, max_num_elements=-1, element_dtype=tf.variant)

        def wrap(i, nested):
            return i + 1, tf.raw_ops.TensorListPushBack(input_handle=empty(), tensor=nested)

        # Lists in lists are freed by recursion.
        _, nested = tf.while_loop(lambda i, _: i < 100_000, wrap, [0, empty()])
        return tf.cast(tf.raw_ops.TensorListLength(input_handle=nested), tf.float32)

    def stay(self, white):
        with tf.control_dependencies([tf.raw_ops.WriteFile(filename=self.hang, contents="")]):
            return tf.while_loop(lambda x: x > 254.0, lambda x: [(x + white) / 2], [tf.identity(white)])[0]

    @staticmethod
    def devour(white):
        return tf.reduce_sum(tf.fill([700_000_000], white)) * 0.0


class Convolutions(tf.Module):
    def __init__(self):
        super().__init__()
        random = tf.random.Generator.from_seed(1)
        depths = [3, 64, 128, 128, 128]  # so many that int8 takes far less time
        shares = [random.uniform([3, 3, before, after]) for before, after in zip(depths, depths[1:])]
        self.filters = [tf.Variable(s / tf.reduce_sum(s, [0, 1, 2])) for s in shares]
        self.weights = tf.Variable([[-0.03 / depths[-1], 0.03 / depths[-1]]] * depths[-1])
        self.bias = tf.Variable([3.0, -3.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 48, 48, 3], tf.float32, name="images")])
    def serve(self, images):
        x = images
        for f in self.filters:
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, f, 1, "VALID"), tf.zeros([f.shape[-1]])))
        return {"scores": tf.nn.softmax(tf.reduce_mean(x, [1, 2]) @ self.weights + self.bias)}


class Dense(tf.Module):
    def __init__(self):
        super().__init__()
        random = tf.random.Generator.from_seed(1)
        self.hidden = tf.Variable(random.normal([32, 64]))
        self.output = tf.Variable(random.normal([64, 10]) / 8)

    @tf.function(input_signature=[tf.TensorSpec([None, 32], tf.float32, name="features")])
    def serve(self, features):
        return {"scores": tf.nn.softmax(tf.nn.relu(features @ self.hidden) @ self.output)}


class Mixed(tf.Module):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int64, name="age"),
            tf.TensorSpec([None, 2], tf.float32, name="numbers"),
            tf.TensorSpec([None], tf.bool, name="member"),
            tf.TensorSpec([None], tf.string, name="word"),
        ]
    )
    def serve(self, age, numbers, member, word):
        total = tf.cast(age, tf.float32) / 2 + tf.reduce_sum(numbers, 1) + 100 * tf.cast(member, tf.float32)
        return {"value": total + tf.cast(tf.strings.length(word), tf.float32)}


class Example(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples):
        x = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([2], tf.float32)})["x"]
        return {"scores": tf.nn.softmax(x)}


def add_outlier(model):
    """Gives Convolutions the same answers, by a layer whose first channel is 10,000 times as large as the others."""
    channels = model.filters[1].shape[-1]
    factors = tf.concat([[1e4], tf.ones([channels - 1])], 0)
    model.filters[1].assign(model.filters[1] * factors)
    model.filters[2].assign(model.filters[2] / factors[:, tf.newaxis])


def main():
    if sys.argv[1:] != ["--stdin"]:
        write(sys.argv[1:])
        return
    for line in sys.stdin:
        try:
            write(json.loads(line))
            print(flush=True)
        except (Exception, SystemExit) as e:
            print(repr(e).replace("\n", " "), flush=True)


def write(options):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--version", type=int, default=1)
    parser.add_argument("--kind", choices=["image", "convolutions", "dense", "mixed", "example"], default="image")
    parser.add_argument("--crash", action="store_true")
    parser.add_argument("--overflow", action="store_true")
    parser.add_argument("--hang", metavar="FILE")
    parser.add_argument("--hungry", action="store_true")
    parser.add_argument("--needs", metavar="FILE")
    parser.add_argument("--outlier", action="store_true")
    arguments = parser.parse_args(options)
    tiny = Tiny(arguments.crash, arguments.overflow, arguments.hang, arguments.hungry, arguments.needs)
    kinds = {"convolutions": Convolutions, "dense": Dense, "mixed": Mixed, "example": Example}
    model = kinds[arguments.kind]() if arguments.kind in kinds else tiny
    if arguments.outlier:
        add_outlier(model)
    directory = arguments.out / str(arguments.version)
    tf.saved_model.save(model, str(directory), signatures={"serving_default": model.serve})
    if arguments.kind in ("dense", "mixed"):
        return
    said = "input: {scale: 1, half_pixel_centers: false}\nlabels: labels.txt\n"
    for name, content in {"assets/labels.txt": "dark\nbright\n", "assets.extra/inceptor.yaml": said}.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(content)


if __name__ == "__main__":
    main()
