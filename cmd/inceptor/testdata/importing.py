#!/usr/bin/env python3
"""Makes what a reader of docs/importing.md has: `importing.py ZOO PHOTOS OUT`.

OUT gets a folder for each section of the page, named as its links have it. In them are small
models and files of the same form, and cat.jpg. OUT/families has what the page's table of
preprocessing is compared with. What keras.utils.get_file would download goes to KERAS_HOME.
"""

import importlib
import json
import os
import pathlib
import shutil
import sys
import tarfile
import zipfile

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from PIL import Image

tf1 = tf.compat.v1
SIZE = 96
SECTIONS = (
    "the-steps", "tensorflow-servings-inception", "tf-slim", "keras-2", "keras-3",
    "tensorflow-hub", "automl-vision", "teachable-machine", "estimators", "pictures-of-your-own",
)


def pixels(photo):
    """A photo as float32 [1, SIZE, SIZE, 3] from -1 to 1."""
    image = tf.image.resize(np.asarray(Image.open(photo).convert("RGB")), [SIZE, SIZE])
    return (image.numpy() / 127.5 - 1)[np.newaxis]


def network(k, cat, coffee, classes=2):
    """A model of this Keras whose class 0 is the one picture and class 1 the other."""
    layers = [k.layers.Input((SIZE, SIZE, 3)), k.layers.AveragePooling2D(12), k.layers.Flatten()]
    features = k.Sequential(layers)
    seen = [features(pixels(photo)).numpy()[0] for photo in (cat, coffee)]
    between = (seen[0] - seen[1]) / np.sum((seen[0] - seen[1]) ** 2)
    kernel = np.zeros((between.size, classes), np.float32)
    bias = np.full(classes, -9, np.float32)
    kernel[:, 0], kernel[:, 1] = 6 * between, -6 * between
    bias[0] = -6 * between @ (seen[0] + seen[1]) / 2
    bias[1] = -bias[0]
    model = k.Sequential([*layers, k.layers.Dense(classes, activation="softmax")])
    model.layers[-1].set_weights([kernel, bias])
    return model


def frozen(file, kernel):
    """A frozen graph with the ends of slim's Inception v3."""
    with tf.Graph().as_default() as graph:
        images = tf1.placeholder(tf.float32, [1, 299, 299, 3], name="input")
        flat = tf.reshape(tf1.nn.avg_pool(images, [1, 37, 37, 1], [1, 37, 37, 1], "VALID"), [1, -1])
        scores = tf.nn.softmax(tf.matmul(flat, tf.constant(kernel, tf.float32)))
        tf.reshape(scores, tf.shape(scores), name="InceptionV3/Predictions/Reshape_1")
    file.write_bytes(graph.as_graph_def().SerializeToString())


def archive(file, folder):
    with tarfile.open(file, "w:gz") as tar:
        tar.add(folder, arcname=".")


def lines(file, *words):
    file.write_text("".join(f"{word}\n" for word in words))


def parts(photo, folder, size=(280, 240)):
    """Parts of a photo, as pictures of their own."""
    folder.mkdir(parents=True)
    image = Image.open(photo).convert("RGB")
    for i in range(6):
        left, top = (image.width - size[0]) * i // 5, (image.height - size[1]) * (i * 2 % 5) // 5
        image.crop((left, top, left + size[0], top + size[1])).save(folder / f"{i + 1}.jpg")


def resize(image, height, width):
    return tf1.image.resize_bilinear(image[tf.newaxis], [height, width], align_corners=False)[0]


def slim_inception(image, size):
    """Slim's inception_preprocessing.py, as it evaluates."""
    image = tf.image.central_crop(tf.image.convert_image_dtype(image, tf.float32), 0.875)
    return (resize(image, size, size) - 0.5) * 2


def slim_vgg(image, size):
    """Slim's vgg_preprocessing.py, as it evaluates: there a size of 224 has a side of 256."""
    side = size * 256 // 224
    height, width = (round(length * side / min(image.shape[:2])) for length in image.shape[:2])
    image = resize(tf.cast(image, tf.float32), height, width)
    top, left = (height - size) // 2, (width - size) // 2
    return image[top : top + size, left : left + size] - [123.68, 116.78, 103.94]


def families(out, cat, size=112):
    """Of a picture, the channels' means after each preprocessing, and a model that tells them."""
    out.mkdir()
    image = Image.open(cat).convert("RGB")
    image.save(out / "picture.png")
    pixels = np.asarray(image)
    made = {"slim": {"inception": slim_inception(pixels, size), "vgg": slim_vgg(pixels, size)}}
    made["keras"] = {}
    resized = tf.image.resize(pixels, [size, size]).numpy()
    for name in dir(keras.applications):
        module = getattr(getattr(keras.applications, name), "__module__", "")
        if module.startswith("keras.src.applications."):
            preprocess_input = importlib.import_module(module).preprocess_input
            made["keras"][name] = preprocess_input(resized.copy())
    means = {
        origin: {name: np.mean(x, (0, 1)).tolist() for name, x in networks.items()}
        for origin, networks in made.items()
    }
    (out / "means.json").write_text(json.dumps(means))
    images = keras.Input((size, size, 3))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))
    model.export(out / "models/mean/1", verbose=False)


def main(zoo, photos, out):
    zoo, photos, out = map(pathlib.Path, (zoo, photos, out))
    cat, coffee = photos / "chelsea.png", photos / "coffee.png"
    given = {}
    for section in SECTIONS:
        given[section] = out / section
        given[section].mkdir(parents=True)
        Image.open(cat).convert("RGB").save(given[section] / "cat.jpg", quality=95)
    zoo_model = lambda name, to: shutil.copytree(zoo / name / "1", to)

    two = network(keras, cat, coffee)
    two.export(given["the-steps"] / "models/mine/1", verbose=False)
    (given["the-steps"] / "models/mine/1/assets").mkdir(exist_ok=True)
    lines(given["the-steps"] / "models/mine/1/assets/labels.txt", "cat", "coffee")

    zoo_model("classic", given["tensorflow-servings-inception"] / "inception-export/1")

    slim = given["tf-slim"]
    random = np.random.RandomState(1)
    frozen(slim / "inception_v3_2016_08_28_frozen.pb", random.normal(0, 1, [192, 1001]))
    lines(slim / "imagenet_slim_labels.txt", "dummy", *(f"thing {i}" for i in range(1, 1001)))

    old = network(tf_keras, cat, coffee)
    old.compile("adam", "sparse_categorical_crossentropy")
    old.save(given["keras-2"] / "my_model.h5")
    old.save(given["keras-2"] / "my_model")

    new = given["keras-3"]
    two.compile("adam", "sparse_categorical_crossentropy")
    two.save(new / "my_model.keras")
    network(keras, cat, coffee, 1000).save(new / "imagenet.keras")
    names = {0: ("n02123159", "tiger_cat"), 1: ("n07930864", "cup")}
    index = {str(i): names.get(i, (f"n{i:08}", f"thing_{i}")) for i in range(1000)}
    downloads = pathlib.Path(os.environ["KERAS_HOME"]) / "datasets"
    downloads.mkdir(parents=True, exist_ok=True)
    (downloads / "imagenet_class_index.json").write_text(json.dumps(index))

    hub = given["tensorflow-hub"]
    archive(hub / "mobilenet-v2.tar.gz", zoo / "hub_v2/1")
    archive(hub / "hub-module.tar.gz", zoo / "hub_v1/1")
    lines(hub / "ImageNetLabels.txt", "background", *(f"thing {i}" for i in range(1, 10)))
    lines(hub / "imagenet1000.txt", *(f"thing {i}" for i in range(1, 10)))

    zoo_model("automl", given["automl-vision"] / "tf_saved_model-flowers")

    folder = zoo_model("teachable_machine", given["teachable-machine"] / "model.savedmodel")
    labels = (folder / "labels.txt").rename(given["teachable-machine"] / "labels.txt")
    with zipfile.ZipFile(given["teachable-machine"] / "converted_savedmodel.zip", "w") as z:
        for file in [labels, *folder.rglob("*")]:
            z.write(file, file.relative_to(given["teachable-machine"]))
    shutil.rmtree(folder)
    labels.unlink()

    zoo_model("estimator_bytes", given["estimators"] / "export/1700000000")
    zoo_model("estimator_dnn", given["estimators"] / "numbers/1700000000")
    example = tf.train.Example()
    example.features.feature["a"].float_list.value.extend([0.1, 0.9, -0.4, 0.3])
    (given["estimators"] / "row.example").write_bytes(example.SerializeToString())

    parts(cat, given["pictures-of-your-own"] / "pictures/cat")
    parts(coffee, given["pictures-of-your-own"] / "pictures/coffee")

    families(out / "families", cat)


if __name__ == "__main__":
    main(*sys.argv[1:])
