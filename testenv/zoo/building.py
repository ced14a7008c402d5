"""Builds one model, and asks it."""

import json
import shutil
import time
import traceback


def registered():
    """The registry with all models in it: with TensorFlow, whose import takes seconds."""
    import encoded, heads, keras2, modern, pixels, recipes, rows, slim  # noqa: E401, F401
    import registry

    return registry.MODELS


def names():
    return list(registered())


def asked(name, reading, photos):
    """The photos that a reading answers: of encoded images, those of every format."""
    if reading.takes == "pixels":
        return {file: photos[file] for file in ("china.jpg", "flower.jpg", "chelsea.png")} | (
            {"black.png": photos["black.png"]} if name.startswith("standardize") else {})
    return {file: content for file, content in photos.items() if file != "black.png"}


def make(name, samples, out):
    """Builds one model; returns what went wrong, and how long it took."""
    start = time.monotonic()
    build, readings = registered()[name]
    import answers
    import likeness

    likeness.photos = samples
    directory = out / name / "1"
    shutil.rmtree(out / name, ignore_errors=True)
    photos = {file.name: file.read_bytes() for file in sorted((out / "photos").iterdir())}
    try:
        build(directory)
        found = {key: answers.ask(directory, reading, asked(name, reading, photos)) for key, reading in readings.items()}
        (out / name / "answers.json").write_text(json.dumps(found, indent=1) + "\n")
    except Exception:
        return traceback.format_exc(limit=-3), 0
    return None, time.monotonic() - start
