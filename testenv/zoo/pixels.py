"""Models of TensorFlow 1 that take pixels: types, shapes, tags and variables as people have them."""

import zlib

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from answers import Reading
from graphs import build, network, signature, tf1, write
from registry import model, models

DEFAULT = {"default": Reading()}


def plain(directory, classes=10, shape=(None, 96, 96, 3), dtype=tf.float32, key="images", output="scores", activation=tf.nn.softmax,
          before=lambda x: x, after=lambda y: y, resource=None, partitioner=None, **options):
    """A model of one input with pixels and one output with scores."""

    def make():
        images = tf1.placeholder(dtype, shape, name="images")
        logits = network(before(tf.cast(images, tf.float32)), classes, resource, partitioner)
        return {"serving_default": signature({key: images}, {output: after(activation(logits))})}

    build(directory, make, **options)


def loop(x):
    return tf1.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 0.9), [tf.constant(0), x])[1]


def branch(x):
    return tf1.cond(tf.reduce_max(x) > 2, lambda: x / 127.5 - 1, lambda: x)


def halves():
    return tf1.fixed_size_partitioner(2)


# Variables: by reference, as resources, in parts.
models(plain, DEFAULT, tf1_ref={}, tf1_resource={"resource": True}, partitioned={"partitioner": halves()},
       partitioned_resource={"partitioner": halves(), "resource": True}, sharded={"resource": True})

# Control flow before the network.
models(plain, DEFAULT, tf1_while={"resource": True, "before": loop}, tf1_cond={"resource": True, "before": branch})

# Tags.
models(plain, {"default": Reading(tags=("serve", "gpu"))}, tags_gpu={"tags": ("serve", "gpu")},
       train_and_servegpu={"tags": ("train",), "also": [("serve", "gpu")], "resource": True})
models(plain, {"default": Reading(tags=())}, tags_none={"tags": (), "resource": True})
models(plain, {"default": Reading(tags=("train",))}, tags_train={"tags": ("train",)})
models(plain, DEFAULT, two_graphs={"tags": ("train",), "also": [("serve",)], "resource": True},
       serve_and_servegpu={"tags": ("serve", "gpu"), "also": [("serve",)], "resource": True}, pbtxt={"text": True})
models(plain, {"default": Reading(tags=("serve", "gpu")), "tpu": Reading(tags=("serve", "tpu"))},
       tags_two={"tags": ("serve", "gpu"), "also": [("serve", "tpu")], "resource": True})
models(plain, {"default": Reading(tags=("eval",))}, tags_eval={"tags": ("train",), "also": [("eval",)], "resource": True})
models(plain, {"default": Reading(tags=("my_model",))}, tags_other={"tags": ("my_model",)})

# Shapes of the input.
models(plain, {"default": Reading(nchw=True)},
       nchw={"shape": (None, 3, 96, 96), "before": lambda x: tf.transpose(x, [0, 2, 3, 1])})
models(plain, DEFAULT, batch1={"shape": (1, 96, 96, 3)}, dynamic={"shape": (None, None, None, 3)},
       dynamic_all={"shape": (None,) * 4, "before": lambda x: tf.reshape(x, tf.concat([tf.shape(x)[:3], [3]], 0))},
       unknown_rank={"shape": None, "before": lambda x: tf.reshape(x, [-1, 96, 96, 3])})
models(plain, {"default": Reading(batch=8)}, batch8={"shape": (8, 96, 96, 3)})
models(plain, {"default": Reading(batch=2, nchw=True)},
       batch2_nchw={"shape": (2, 3, 96, 96), "dtype": tf.float16, "before": lambda x: tf.transpose(x, [0, 2, 3, 1])})
models(plain, {"default": Reading(shape=lambda x: tf.reshape(x, [1, -1]))},
       flat_input={"shape": (None, 96 * 96 * 3), "before": lambda x: tf.reshape(x, [-1, 96, 96, 3])})
models(plain, {"default": Reading(input="image", shape=lambda x: x[0])},
       unbatched={"shape": (96, 96, 3), "key": "image", "before": lambda x: x[tf.newaxis], "after": lambda y: y[0]})

# Types of the input. Those of whole numbers scale the pixels themselves.
WHOLE = {"default": Reading(scale=1, offset=0)}
models(plain, WHOLE, **{f"{dtype.name}_in": {"dtype": dtype, "before": lambda x: x / 127.5 - 1}
                        for dtype in (tf.uint8, tf.uint16, tf.uint32, tf.uint64, tf.int16, tf.int32, tf.int64)})
models(plain, {"default": Reading(scale=1, offset=-128)}, int8_in={"dtype": tf.int8, "before": lambda x: (x + 128) / 127.5 - 1})
models(plain, DEFAULT, f16_in={"dtype": tf.float16}, f64_in={"dtype": tf.float64}, bf16_in={"dtype": tf.bfloat16})
models(plain, DEFAULT, **{f"{short}_both": {"dtype": dtype, "after": lambda y, dtype=dtype: tf.cast(y, dtype)}
                          for short, dtype in (("f16", tf.float16), ("bf16", tf.bfloat16), ("f64", tf.float64))})



def pair_of_logit(scores):
    """What [1 - logit, logit] should have been."""
    p = tf.sigmoid(scores[:, 1])
    return tf.stack([1 - p, p], -1)


# Outputs.
models(plain, DEFAULT, out_rank4={"after": lambda y: y[:, tf.newaxis, tf.newaxis, :]},
       out_unknown_shape={"after": lambda y: tf1.placeholder_with_default(y, None)},
       f64_out={"after": lambda y: tf.cast(y, tf.float64)}, f16_out={"after": lambda y: tf.cast(y, tf.float16)},
       bf16_out={"after": lambda y: tf.cast(y, tf.bfloat16)},
       int32_out={"after": lambda y: tf.cast(y * 1000, tf.int32)}, uint8_out={"after": lambda y: tf.cast(y * 255, tf.uint8)})
models(plain, {"default": Reading(), "pair": Reading(pair=True)}, sigmoid1={"classes": 1, "activation": tf.nn.sigmoid},
       sigmoid_vec={"classes": 1, "activation": tf.nn.sigmoid, "after": lambda y: y[:, 0]})
models(plain, {"default": Reading(), "pair": Reading(pair=True, activation=pair_of_logit)}, sigmoid_logit={"classes": 1, "activation": tf.identity})
models(plain, {"default": Reading(scores="logits"), "softmax": Reading(scores="logits", activation=tf.nn.softmax),
               "sigmoid": Reading(scores="logits", activation=tf.sigmoid)},
       logits={"activation": tf.identity, "output": "logits"},
       f16_logits={"activation": tf.identity, "output": "logits", "after": lambda y: tf.cast(y, tf.float16)})
models(plain, DEFAULT, background={"classes": 11})
models(plain, {"default": Reading(scores="", outputs=("classes",), apart=0)}, argmax_only={"output": "classes", "after": lambda y: tf.argmax(y, 1)})


@model(default=Reading())
def sharded_devices(directory):
    """Variables on two devices, and so two shards."""

    def device(op):
        variable = op.type in ("VarHandleOp", "VariableV2")
        return f"/cpu:{zlib.crc32(op.name.encode()) % 2 if variable else 0}"

    def make():
        with tf1.device(device):
            images = tf1.placeholder(tf.float32, [None, 96, 96, 3], name="images")
            scores = tf.nn.softmax(network(images, 10, resource=True))
        return {"serving_default": signature({"images": images}, {"scores": scores})}, {
            "saver": tf1.train.Saver(sharded=True, allow_empty=True)}

    build(directory, make, config=tf1.ConfigProto(device_count={"CPU": 2}))


@model(default=Reading())
def keep_prob(directory):
    """Inputs that have a default."""

    def make():
        images = tf1.placeholder(tf.float32, [None, 96, 96, 3], name="images")
        keep = tf1.placeholder_with_default(1.0, [], name="keep_prob")
        training = tf1.placeholder_with_default(False, [], name="is_training")
        factor = tf1.cond(training, lambda: 0.5, lambda: 1.0)
        scores = tf.nn.softmax(network(images, 10) * keep * factor)
        return {"serving_default": signature({"images": images, "keep_prob": keep, "is_training": training}, {"scores": scores})}

    build(directory, make)


@model(default=Reading(more={"dropout_keep": np.float32(1), "phase": np.array([False])}))
def fixed_inputs(directory):
    """Inputs without a default, which have to be given: a number, and a value for each image."""

    def make():
        images = tf1.placeholder(tf.float32, [None, 96, 96, 3], name="images")
        keep = tf1.placeholder(tf.float32, [], name="dropout_keep")
        phase = tf1.placeholder(tf.bool, [None], name="phase")
        logits = network(images, 10) * keep
        scores = tf.nn.softmax(tf.where(phase[:, tf.newaxis], tf.zeros_like(logits), logits))
        return {"serving_default": signature({"images": images, "dropout_keep": keep, "phase": phase}, {"scores": scores})}

    build(directory, make)


@model(logits=Reading(signature="image_classification", scale=1 / 255, offset=0, scores="logits", tags=()))
def hub_v1(directory):
    """A TF-Hub module of TensorFlow 1: no tags, pixels from 0 to 1, two signatures."""

    def make():
        images = tf1.placeholder(tf.float32, [None, 96, 96, 3], name="images")
        logits = network(images * 2 - 1, 1001, resource=True)
        return {"default": signature({"images": images}, {"default": logits}),
                "image_classification": signature({"images": images}, {"logits": logits})}

    build(directory, make, tags=(), also=[("train",)])


@model(default=Reading(input="input", size=(224, 224), scores="probabilities", batch=64, apart=1e-3))
def resnet_fixed64(directory):
    """The official ResNet's export with a batch of 64."""

    def make():
        images = tf1.placeholder(tf.float32, [64, 224, 224, 3], name="input_tensor")
        logits = network(images, 1001)
        one = signature({"input": images}, {"classes": tf.argmax(logits, 1), "probabilities": tf.nn.softmax(logits)})
        return {"serving_default": one, "predict": one}

    build(directory, make)


def ranks(directory, words):
    """The five best scores alone, or with their classes' indices."""

    def make():
        images = tf1.placeholder(tf.float32, [None, 96, 96, 3], name="images")
        values, indices = tf.nn.top_k(tf.nn.softmax(network(images, 20)), 5)
        outputs = {"scores": values} | ({"class_ids": tf.cast(indices, tf.int64)} if words else {})
        return {"serving_default": signature({"images": images}, outputs)}

    build(directory, make)
    write(directory, {"assets/labels.txt": "".join(f"thing {i}\n" for i in range(20))})


models(ranks, {"default": Reading(classes="class_ids")}, top5_ids={"words": True})
models(ranks, {}, top5_alone={"words": False})


def standardized(x):
    mean, variance = tf.nn.moments(x, [1, 2, 3], keepdims=True)
    return (x - mean) / tf.sqrt(variance)


# Of a black image it makes 0/0.
models(plain, {"default": Reading(scale=1, offset=0)}, standardize={"before": standardized})


@model()
def custom_op(directory):
    """An operation of the author's own, which TensorFlow does not have."""
    plain(directory, before=lambda x: tf.identity(x, name="own"))
    file = directory / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    (node,) = (node for node in saved.meta_graphs[0].graph_def.node if node.name == "own")
    node.op = "ZeroOut"
    file.write_bytes(saved.SerializeToString())


@model()
def ragged(directory):
    """Pixels in rows of unequal length."""

    def make():
        images = tf1.ragged.placeholder(tf.float32, 1, [3], name="images")
        x = tf.reshape(images.to_tensor(shape=[None, 96 * 96, 3]), [-1, 96, 96, 3])
        return {"serving_default": signature({"images": images}, {"scores": tf.nn.softmax(network(x, 10))})}

    build(directory, make)


@model(default=Reading(takes="bytes", shape=lambda content: np.array([[content]], object)))
def bytes_column(directory):
    """Encoded images in a column, [N, 1]."""

    def make():
        images = tf1.placeholder(tf.string, [None, 1], name="images")
        pixels = tf1.map_fn(decoded, images[:, 0], dtype=tf.float32)
        return {"serving_default": signature({"images": images}, {"scores": tf.nn.softmax(network(pixels, 10))})}

    build(directory, make)


@model(default=Reading(takes="bytes", batch=4))
def bytes_batch4(directory):
    """Four encoded images, no more and no less."""

    def make():
        images = tf1.placeholder(tf.string, [4], name="images")
        pixels = tf1.map_fn(decoded, images, dtype=tf.float32)
        return {"serving_default": signature({"images": images}, {"scores": tf.nn.softmax(network(pixels, 10))})}

    build(directory, make)


def decoded(content):
    image = tf1.image.decode_jpeg(content, channels=3)
    return tf1.image.resize_images(image, [96, 96]) / 127.5 - 1


def diverged(directory, variable):
    """One value of a variable is NaN, as after a training that diverged."""

    def diverge(session):
        broken = next(v for v in tf1.global_variables() if v.op.name == variable)
        value = session.run(broken)
        value.flat[0] = np.nan
        broken.load(value, session)

    plain(directory, resource=True, change=diverge)


models(diverged, {}, nan_weights={"variable": "net/conv1/weights"}, nan_batch_norm={"variable": "net/conv1/gamma"})
