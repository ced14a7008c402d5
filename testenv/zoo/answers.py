"""Python TensorFlow's answers of a saved model to photos, by a convention that is written out here once more."""

import base64
import dataclasses
import itertools
import json
import re

import keras
import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1

# How far apart two photos' scores must be, and those of a photo with another preprocessing: else
# a model cannot show that it was fed as it should be.
APART = 0.02
MOVED = 3e-4


@dataclasses.dataclass
class Reading:
    """How one signature of a model is called, and what its outputs mean."""

    signature: str = "serving_default"
    input: str = "images"
    # What the input takes: pixels, bytes (an encoded image), base64 (that in Base64), example (a
    # tf.Example with the encoded image), row (a JSON object) or text.
    takes: str = "pixels"
    size: tuple = (96, 96)
    crop: float = 1  # of tf.image.central_crop
    fit: str = "stretch"  # or pad, tf.image.resize_with_pad, or crop, Keras' smart_resize
    resize: str = "bilinear"  # of tf.image.ResizeMethod
    half_pixel_centers: bool = False
    align_corners: bool = False
    channels: str = "rgb"  # or bgr, or gray
    scale: object = 1 / 127.5  # a number, or one for each channel
    offset: object = -1.0
    preprocess: object = None  # Keras' own function, in place of bgr, scale and offset
    nchw: bool = False
    shape: object = None  # a function of pixels [1, height, width, channels]
    batch: int = 0  # that the model takes, no other; 0: any
    more: dict = dataclasses.field(default_factory=dict)  # other inputs
    scores: str = "scores"  # empty: the model gives none
    classes: str = ""  # output with the words, or indices, of the scores' shape
    activation: object = None  # tf.nn.softmax or tf.sigmoid, for scores that are logits
    pair: bool = False  # the only score is the second of two classes
    outputs: tuple = ()  # that are answered as arrays
    tags: tuple = ("serve",)
    modern: bool = False  # loaded by tf.saved_model.load
    rows: tuple = ()  # in place of photos
    apart: float = APART

    def pixels(self, content):
        image = tf.io.decode_image(content, channels=3, expand_animations=False)
        if self.crop != 1:
            image = tf.image.central_crop(image, self.crop)
        image = tf.cast(self.resized(image), tf.float32)
        if self.preprocess:
            image = self.preprocess(image.numpy())
        else:
            if self.channels == "bgr":
                image = tf.reverse(image, [-1])
            elif self.channels == "gray":
                image = tf.image.rgb_to_grayscale(image)
            image = image * np.float32(self.scale) + np.float32(self.offset)
        image = np.asarray(image)[np.newaxis]
        return image.transpose(0, 3, 1, 2) if self.nchw else image

    def resized(self, image):
        if self.fit == "crop":
            return keras.preprocessing.image.smart_resize(tf.cast(image, tf.float32), self.size, self.resize)
        if self.half_pixel_centers:
            resize = tf.image.resize if self.fit == "stretch" else tf.image.resize_with_pad
            size = [self.size] if self.fit == "stretch" else self.size
            return resize(image, *size, method=self.resize)
        method = getattr(tf1.image.ResizeMethod, {"nearest": "NEAREST_NEIGHBOR"}.get(self.resize, self.resize.upper()))
        if self.fit == "stretch":
            return tf1.image.resize(image, self.size, method, self.align_corners)
        return tf1.image.resize_image_with_pad(image, *self.size, method, self.align_corners)

    def others(self):
        """This reading with one thing of the preprocessing changed at a time."""
        if self.fit == "stretch" and self.resize != "area" and not self.align_corners:
            yield dataclasses.replace(self, half_pixel_centers=not self.half_pixel_centers)
        for field in dataclasses.fields(self):
            if field.name in ("crop", "fit", "resize", "align_corners") and getattr(self, field.name) != field.default:
                yield dataclasses.replace(self, **{field.name: field.default})
        if self.channels == "bgr":
            yield dataclasses.replace(self, channels="rgb")

    def feed(self, content, dtype):
        """The signature's inputs for one photo or row."""
        if self.takes == "row":
            rows = [content] * (self.batch or 1)
            return {key: np.array([row[key] for row in rows]) for key in content}
        if self.takes == "pixels":
            value = self.pixels(content)
            value = tf.cast(self.shape(value) if self.shape else value, dtype).numpy()
            if self.batch:  # the others are another image
                value = np.concatenate([value] + [value[:, ::-1]] * (self.batch - 1))
        elif self.takes == "example":
            value = example(content)
        elif self.takes == "base64":
            value = base64.urlsafe_b64encode(content)
        else:
            value = content
        if self.takes != "pixels":
            value = self.shape(value) if self.shape else np.array([value] * (self.batch or 1), object)
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
    values = {c["label"] or c["index"]: c["score"] for c in answer.get("classes", [])}
    for key, array in answer.get("outputs", {}).items():
        values |= {(key, i): float(value) for i, value in enumerate(np.ravel(array)) if not isinstance(value, str)}
    return values


def distance(a, b):
    return max(abs(a.get(key, 0) - b.get(key, 0)) for key in a.keys() | b.keys())


def answer(model, reading, content):
    try:
        outputs = model(reading.feed(content, None if reading.takes == "row" else model.dtype()))
    except (tf.errors.OpError, ValueError) as e:
        return {"error": str(getattr(e, "message", e)).splitlines()[0]}
    if reading.batch:
        outputs = {key: value[:1] for key, value in outputs.items()}
    found = {}
    if reading.scores:
        scores = np.asarray(outputs[reading.scores], np.float64)
        if reading.pair:
            scores = np.stack([1 - scores.reshape(-1), scores.reshape(-1)], -1)
        if reading.activation:
            scores = reading.activation(scores.reshape(1, -1)).numpy()
        found["classes"] = ranked(outputs | {reading.scores: scores}, reading)
    if reading.outputs:
        found["outputs"] = {key: plain(outputs[key][0]) for key in reading.outputs}
    if not all(np.isfinite(value) for value in vector(found).values()):
        return {"error": "not finite"}
    return found


def plain(array):
    """An array as JSON has it."""
    if isinstance(array, bytes):
        return array.decode()
    array = np.asarray(array)
    if array.dtype == object:
        return [plain(a) for a in array]
    return (array.astype(np.float64) if array.dtype.kind not in "biu" else array).tolist()


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
    good = [a for a in answers if "error" not in a]
    if len(good) < 2:
        raise ValueError(f"no two photos are answered: {answers}")
    if reading.apart:
        # By the first word of the name: the same photo in another format is not another photo.
        different = [(a, b) for a, b in itertools.combinations(good, 2) if key(a) != key(b)]
        nearest = min(distance(vector(a), vector(b)) for a, b in different)
        if nearest < reading.apart:
            raise ValueError(f"two photos are answered alike, {nearest:.5f} apart")
    if reading.takes == "pixels" and reading.apart:
        for changed in reading.others():
            other = [answer(model, changed, photo) for photo in photos.values()]
            moved = max(distance(vector(a), vector(b)) for a, b in zip(answers, other) if "error" not in a and "error" not in b)
            if moved < MOVED:
                differ = [f.name for f in dataclasses.fields(reading) if getattr(reading, f.name) != getattr(changed, f.name)]
                raise ValueError(f"another {differ} moves the scores by {moved:.6f} only")
    for a in good:
        if "classes" in a:
            del a["classes"][20:]
    return answers


def key(a):
    return a.get("row") or re.split("[.-]", a["file"])[0]
