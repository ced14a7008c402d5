"""Models of TensorFlow 1 that take encoded images, tf.Examples or text, the classic Inception first."""

import numpy as np
import tensorflow as tf

from answers import Reading
from graphs import CLASSIFY, build, network, signature, tf1, words
from registry import model, models
from slim import inception_v3, settle

NAMES = ["unused background"] + [f"class {i:04}, also called thing {i}" for i in range(1, 1001)]
FLOWERS = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]


def strings(name=None, shape=(None,)):
    return tf1.placeholder(tf.string, shape, name=name)


def decoded(contents, one):
    """float32 [N, height, width, 3] of encoded images, each made by one(content)."""
    return tf1.map_fn(one, contents, dtype=tf.float32)


def classic_pixels(size):
    """The preprocessing of TensorFlow Serving's example: the middle of a JPEG, from -1 to 1."""

    def one(content):
        image = tf.image.convert_image_dtype(tf1.image.decode_jpeg(content, channels=3), tf.float32)
        image = tf.image.central_crop(image, 0.875)
        image = tf1.image.resize_bilinear(image[tf.newaxis], [size, size], align_corners=False)
        return (tf.squeeze(image, [0]) - 0.5) * 2

    return one


def resized(size, decode=lambda c: tf1.image.decode_jpeg(c, channels=3), scale=127.5, offset=1.0):
    def one(content):
        image = decode(content)
        image.set_shape([None, None, 3])
        return tf1.image.resize_images(image, [size, size]) / scale - offset

    return one


def decode_any(content):
    return tf.image.decode_image(content, channels=3, expand_animations=False)


CLASSIC = {
    "predict": Reading(signature="predict_images", input="images", takes="bytes", scores="scores", classes="classes"),
    "classify": Reading(input="inputs", takes="example", scores="scores", classes="classes"),
}


def classic_export(directory, logits, parse=tf1.parse_example, **options):
    """What inception_saved_model.py of TensorFlow Serving exports, around these logits of images."""

    def make():
        examples = tf1.placeholder(tf.string, name="tf_example")
        parsed = parse(examples, {"image/encoded": tf1.FixedLenFeature([], tf.string)})
        jpegs = tf.identity(parsed["image/encoded"], name="jpegs")
        values, indices = tf.nn.top_k(logits(decoded(jpegs, classic_pixels(299))), 5)
        outputs = {"classes": words(NAMES).lookup(tf.cast(indices, tf.int64)), "scores": values}
        signatures = {"predict_images": signature({"images": jpegs}, outputs), "serving_default": signature({"inputs": examples}, outputs, CLASSIFY)}
        return signatures, {"legacy_init_op": tf.group(tf1.tables_initializer(), name="legacy_init_op")}

    build(directory, make, **options)


def parse_example_v1(examples, _):
    """The operation that TensorFlow 1 wrote for tf.parse_example."""
    dense = tf.raw_ops.ParseExample(serialized=examples, names=tf.constant([], tf.string), sparse_keys=[], dense_keys=["image/encoded"],
                                    dense_defaults=[tf.constant([], tf.string)], sparse_types=[], dense_shapes=[[]]).dense_values
    return {"image/encoded": dense[0]}


def small(resource):
    return lambda images: network(images, 1001, resource)


models(classic_export, CLASSIC, classic={"logits": small(False), "parse": parse_example_v1}, classic_resource={"logits": small(True)})


@model(**CLASSIC)
def classic_v3(directory):
    """The classic Inception, whole."""
    classic_export(directory, lambda images: inception_v3(images)[0], parse_example_v1, change=settle)


@model(predict=Reading(signature="predict_images", takes="bytes", classes="classes"))
def classic_decode_image(directory):
    """A later relative of the classic: any format, probabilities, a main op."""

    def one(content):
        image = decode_any(content)
        image.set_shape([None, None, 3])
        image = tf1.image.resize_bilinear(tf.image.convert_image_dtype(image, tf.float32)[tf.newaxis], [299, 299])
        return (image[0] - 0.5) * 2

    def make():
        images = strings("images")
        values, indices = tf.nn.top_k(tf.nn.softmax(network(decoded(images, one), 1001)), 5)
        outputs = {"classes": words(NAMES).lookup(tf.cast(indices, tf.int64)), "scores": values}
        return {"predict_images": signature({"images": images}, outputs)}, {"main_op": tf1.tables_initializer()}

    build(directory, make)


@model(default=Reading(input="image_bytes", takes="bytes", more={"key": np.array([b"k"], object)}))
def flowers(directory):
    """Cloud ML's flowers: a key that comes back, the class and all scores."""

    def one(content):
        image = tf1.image.resize_bilinear(tf1.image.decode_jpeg(content, channels=3)[tf.newaxis], [299, 299])
        return tf.cast(tf.squeeze(image, [0]), tf.uint8)

    def make():
        images, keys = strings(), strings()
        pixels = tf.image.convert_image_dtype(tf1.map_fn(one, images, dtype=tf.uint8), tf.float32)
        scores = tf.nn.softmax(network((pixels - 0.5) * 2, 6))
        outputs = {"key": tf.identity(keys), "prediction": tf.argmax(scores, 1), "scores": scores}
        return {"serving_default": signature({"key": keys, "image_bytes": images}, outputs)}

    build(directory, make)


@model(default=Reading(input="image_bytes", takes="bytes", more={"key": np.array([b"k"], object)}, classes="labels"))
def automl(directory):
    """AutoML Vision's export: a key, and the labels beside the scores."""

    def make():
        images, keys = strings("Placeholder"), strings("key")
        scores = tf.nn.softmax(network(decoded(images, resized(224, decode_any)), 5))
        labels = tf.tile(tf.constant([FLOWERS]), [tf.shape(scores)[0], 1])
        outputs = {"labels": labels, "key": tf.identity(keys), "scores": scores}
        return {"serving_default": signature({"image_bytes": images, "key": keys}, outputs)}

    build(directory, make)


@model(default=Reading(input="image_bytes", takes="bytes", scores="probabilities", apart=5e-3))
def resnet_jpg(directory):
    """The official ResNet's export for JPEGs: the mean of each channel is subtracted."""

    def one(content):
        image = tf1.image.decode_jpeg(content, channels=3)
        return tf1.image.resize_images(image, [224, 224]) - tf.constant([123.68, 116.78, 103.94])

    def make():
        images = strings("input_tensor")
        logits = network(decoded(images, one) / 100, 1001)
        one_signature = signature({"image_bytes": images}, {"classes": tf.argmax(logits, 1), "probabilities": tf.nn.softmax(logits)})
        return {"serving_default": one_signature, "predict": one_signature}

    build(directory, make)


def encoded(directory, decode, key="image_bytes"):
    def make():
        images = strings(key)
        return {"serving_default": signature({key: images}, {"scores": tf.nn.softmax(network(decoded(images, resized(96, decode)), 10))})}

    build(directory, make)


def decode_crop(content):
    """The upper left quarter of a JPEG, without decoding the rest."""
    height, width = tf.unstack(tf.image.extract_jpeg_shape(content)[:2])
    return tf.image.decode_and_crop_jpeg(content, [0, 0, height // 2, width // 2], channels=3)


BYTES = {"default": Reading(input="image_bytes", takes="bytes")}
models(encoded, BYTES, bytes_jpeg={"decode": lambda c: tf1.image.decode_jpeg(c, channels=3)},
       png_only={"decode": lambda c: tf.image.decode_png(c, channels=3)}, bytes_crop={"decode": decode_crop})
models(encoded, {"default": Reading(input="b64", takes="base64")}, b64_in={"key": "b64", "decode": lambda c: decode_any(tf.io.decode_base64(c))})


@model(default=Reading(input="image", takes="bytes", shape=lambda content: np.array(content, object)))
def scalar_bytes(directory):
    """One encoded image, without a batch."""

    def make():
        image = strings("image", [])
        logits = network(resized(96, decode_any)(image)[tf.newaxis], 10)
        return {"serving_default": signature({"image": image}, {"scores": tf.nn.softmax(logits)})}

    build(directory, make)


TEXTS = tuple({"text": text} for text in ("a cat sat on the mat", "stocks fell again today", "the quick brown fox"))


@model(default=Reading(takes="row", rows=TEXTS))
def text(directory):
    """A classifier of texts: strings, but no images."""

    def make():
        texts = strings("text")
        tokens = tf.strings.split(texts).to_sparse()
        buckets = tf.SparseTensor(tokens.indices, tf.strings.to_hash_bucket_fast(tokens.values, 100), tokens.dense_shape)
        table = tf1.get_variable("embeddings", [100, 10], initializer=tf1.random_normal_initializer(stddev=2.0, seed=1))
        logits = tf1.nn.embedding_lookup_sparse(table, buckets, None, combiner="sum")
        return {"serving_default": signature({"text": texts}, {"scores": tf.nn.softmax(logits)})}

    build(directory, make)


# What tf.estimator exported. It is gone from TensorFlow: these are its signatures.

ROWS = tuple({"a": a} for a in ([0.1, 0.9, -0.4, 0.3], [1.5, -0.3, 0.2, 0.8], [-1.0, 0.4, 2.0, -0.7]))
VOCABULARY = ["x", "y", "z"]


def dense_network(features):
    """The variables of estimator.DNNClassifier([8])."""
    x = features
    for name, (before, after), activation in ("hiddenlayer_0", (4, 8), tf.nn.relu), ("logits", (8, 3), tf.identity):
        with tf1.variable_scope(f"dnn/{name}"):
            kernel = tf1.get_variable("kernel", [before, after], initializer=tf1.random_normal_initializer(stddev=0.7, seed=before))
            bias = tf1.get_variable("bias", [after], initializer=tf1.random_normal_initializer(stddev=0.1, seed=after))
            x = activation(tf.matmul(x, kernel) + bias)
    return x


def estimator(directory, example):
    def make():
        tf1.train.get_or_create_global_step()
        if example:
            receiver = tf1.placeholder(tf.string, [None], name="input_example_tensor")
            features = tf1.parse_example(receiver, {"a": tf1.FixedLenFeature([4], tf.float32)})["a"]
        else:
            receiver = features = tf1.placeholder(tf.float32, [None, 4], name="a")
        logits = dense_network(features)
        probabilities = tf.nn.softmax(logits)
        n = tf.shape(logits)[0]
        best = tf.argmax(logits, 1)[:, tf.newaxis]
        every = tf.tile(tf.constant([VOCABULARY]), [n, 1])
        predict = {"logits": logits, "probabilities": probabilities, "class_ids": best, "classes": words(VOCABULARY).lookup(best),
                   "all_class_ids": tf.tile(tf.range(3)[tf.newaxis], [n, 1]), "all_classes": every}
        signatures = {"predict": signature({"examples" if example else "a": receiver}, predict)}
        if example:  # a classify signature takes strings alone
            classify = signature({"inputs": receiver}, {"classes": every, "scores": probabilities}, CLASSIFY)
            signatures |= {"serving_default": classify, "classification": classify}
        return signatures, {"main_op": tf1.tables_initializer()}

    build(directory, make)


models(estimator, {
    "classify": Reading(input="inputs", takes="example", rows=ROWS, classes="classes"),
    "predict": Reading(signature="predict", input="examples", takes="example", rows=ROWS, scores="probabilities", classes="all_classes"),
}, estimator_dnn={"example": True})
models(estimator, {
    "predict": Reading(signature="predict", takes="row", rows=ROWS, scores="probabilities", classes="all_classes"),
}, estimator_raw={"example": False})


def estimator_image(directory, example):
    """An estimator for images: of tf.Examples, or of the encoded images."""

    def make():
        tf1.train.get_or_create_global_step()
        receiver = strings("input_example_tensor" if example else "input_image_tensor")
        images = receiver
        if example:
            images = tf1.parse_example(receiver, {"image/encoded": tf1.FixedLenFeature([], tf.string)})["image/encoded"]
        logits = network(decoded(images, resized(96)), 10)
        scores = tf.nn.softmax(logits)
        names = tf.tile(tf.constant([[f"name {i}" for i in range(10)]]), [tf.shape(scores)[0], 1])
        return {
            "serving_default": signature({"inputs": receiver}, {"classes": names, "scores": scores}, CLASSIFY),
            "predict": signature({"examples" if example else "image_bytes": receiver}, {"classes": tf.argmax(logits, 1), "probabilities": scores}),
        }

    build(directory, make)


models(estimator_image, {
    "classify": Reading(input="inputs", takes="example", classes="classes"),
    "predict": Reading(signature="predict", input="examples", takes="example", scores="probabilities"),
}, estimator_example={"example": True})
models(estimator_image, {
    "classify": Reading(input="inputs", takes="bytes", classes="classes"),
    "predict": Reading(signature="predict", input="image_bytes", takes="bytes", scores="probabilities"),
}, estimator_bytes={"example": False})
