"""Python TensorFlow's answers of a saved model to photos, by a convention that is written out here once more."""

import base64
import dataclasses
import itertools
import json
import re

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1

# How far apart two photos' scores must be, and those with another way of resizing: else a
# model cannot show that it was fed as it should be.
APART = 0.02
RESIZED_APART = 3e-4


@dataclasses.dataclass
class Reading:
    """How one signature of a model is called, and what its outputs mean."""

    signature: str = "serving_default"
    input: str = "images"
    # What the input takes: pixels, bytes (an encoded image), base64 (that in Base64), example (a
    # tf.Example with the encoded image), row (a JSON object) or text.
    takes: str = "pixels"
    size: tuple = (96, 96)
    scale: float = 1 / 127.5
    offset: float = -1.0
    half_pixel_centers: bool = False
    shape: object = None  # a function of pixels [1, height, width, 3]
    more: dict = dataclasses.field(default_factory=dict)  # other inputs
    scores: str = "scores"
    classes: str = ""  # output with the words, or indices, of the scores' shape
    tags: tuple = ("serve",)
    modern: bool = False  # loaded by tf.saved_model.load
    rows: tuple = ()  # in place of photos
    apart: float = APART

    def pixels(self, image, half_pixel_centers):
        image = tf.io.decode_image(image, channels=3, expand_animations=False)[tf.newaxis]
        image = tf.raw_ops.ResizeBilinear(images=image, size=self.size, half_pixel_centers=half_pixel_centers)
        return (image * np.float32(self.scale) + np.float32(self.offset)).numpy()

    def feed(self, content, dtype, half_pixel_centers=None):
        """The signature's inputs for one photo or row."""
        if self.takes == "row":
            return {key: np.array([value]) for key, value in content.items()}
        if self.takes == "pixels":
            value = self.pixels(content, self.half_pixel_centers if half_pixel_centers is None else half_pixel_centers)
            value = tf.cast(self.shape(value) if self.shape else value, dtype).numpy()
        elif self.takes == "example":
            value = example(content)
        elif self.takes == "base64":
            value = base64.urlsafe_b64encode(content)
        else:
            value = content
        if self.takes != "pixels":
            value = self.shape(value) if self.shape else np.array([value], object)
        return {self.input: value} | self.more


def example(content):
    """A tf.Example of an encoded image, or of a row of numbers."""
    if isinstance(content, bytes):
        features = {"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))}
    else:
        features = {key: tf.train.Feature(float_list=tf.train.FloatList(value=value)) for key, value in content.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


class Classic:
    """A model loaded as TensorFlow 1 does."""

    def __init__(self, directory, reading):
        self.reading = reading
        with tf.Graph().as_default() as graph:
            self.session = tf1.Session(graph=graph, config=tf1.ConfigProto(allow_soft_placement=True))
            meta = tf1.saved_model.load(self.session, list(reading.tags), str(directory))
        self.signature = meta.signature_def[reading.signature]

    def dtype(self):
        return tf.as_dtype(self.signature.inputs[self.reading.input].dtype)

    def __call__(self, feed):
        feed = {self.signature.inputs[key].name: value for key, value in feed.items()}
        return self.session.run({key: info.name for key, info in self.signature.outputs.items()}, feed)


class Modern:
    """A model loaded as TensorFlow 2 does."""

    def __init__(self, directory, reading):
        self.reading = reading
        self.model = tf.saved_model.load(str(directory))
        self.function = self.model.signatures[reading.signature]
        if not reading.input:  # Keras numbers them
            (reading.input,) = self.function.structured_input_signature[1]

    def dtype(self):
        return self.function.structured_input_signature[1][self.reading.input].dtype

    def __call__(self, feed):
        inputs = self.function.structured_input_signature[1]
        feed = {key: tf.constant(value, inputs[key].dtype) for key, value in feed.items()}
        return {key: value.numpy() for key, value in self.function(**feed).items()}


def ranked(outputs, reading):
    """The classes, best first: {index, label, score}, with a label and no index where the model has words."""
    scores = np.asarray(outputs[reading.scores], np.float64).reshape(-1)
    classes = np.asarray(outputs[reading.classes]).reshape(-1) if reading.classes else np.arange(len(scores))
    ranking = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        word = isinstance(classes[i], bytes)
        ranking.append({"index": None if word else int(classes[i]), "label": classes[i].decode() if word else None, "score": float(scores[i])})
    return ranking


def vector(answer):
    return {c["label"] or c["index"]: c["score"] for c in answer["classes"]}


def distance(a, b):
    return max(abs(a.get(key, 0) - b.get(key, 0)) for key in a.keys() | b.keys())


def answer(model, reading, content, **options):
    try:
        outputs = model(reading.feed(content, None if reading.takes == "row" else model.dtype(), **options))
    except (tf.errors.OpError, ValueError) as e:
        return {"error": str(getattr(e, "message", e)).splitlines()[0]}
    if not np.isfinite(np.asarray(outputs[reading.scores], np.float64)).all():
        return {"error": "scores are not finite"}
    return {"classes": ranked(outputs, reading)}


def ask(directory, reading, photos):
    """The model's answers to the photos, as answers.json has them.

    Raises ValueError where they would not show a wrong way of feeding the model.
    """
    model = (Modern if reading.modern else Classic)(directory, reading)
    if reading.rows:
        answers = [{"row": json.dumps(row)} | answer(model, reading, row) for row in reading.rows]
        if reading.takes == "example":
            for row, a in zip(reading.rows, answers):
                a["example"] = base64.b64encode(example(row)).decode()
    else:
        answers = [{"file": name} | answer(model, reading, photo) for name, photo in photos.items()]
    good = [a for a in answers if "classes" in a]
    if len(good) < 2:
        raise ValueError(f"no two photos are answered: {answers}")
    if good[0]["classes"] and reading.apart:
        # By the first word of the name: the same photo in another format is not another photo.
        different = [(a, b) for a, b in itertools.combinations(good, 2) if key(a) != key(b)]
        nearest = min(distance(vector(a), vector(b)) for a, b in different)
        if nearest < reading.apart:
            raise ValueError(f"two photos are answered alike, {nearest:.5f} apart")
    if reading.takes == "pixels" and reading.apart:
        other = [answer(model, reading, photo, half_pixel_centers=not reading.half_pixel_centers) for photo in photos.values()]
        moved = max(distance(vector(a), vector(b)) for a, b in zip(answers, other) if "classes" in a and "classes" in b)
        if moved < RESIZED_APART:
            raise ValueError(f"the way of resizing moves the scores by {moved:.6f} only")
    for a in good:
        del a["classes"][20:]
    return answers


def key(a):
    return a.get("row") or re.split("[.-]", a["file"])[0]
