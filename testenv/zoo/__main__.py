"""Builds SavedModels as people have them, and writes Python TensorFlow's answers to photos beside each.

    python testenv/zoo --photos DIR --out DIR [NAME...]

writes OUT/NAME/1/, OUT/NAME/answers.json (for each reading of the model, see registry.py, the
answers to photos or rows) and OUT/photos/, the photos in the formats that answers name. Without
names it builds all models, and removes what else is in OUT.
"""

import argparse
import concurrent.futures
import functools
import io
import multiprocessing
import os
import pathlib
import shutil
import sys

import building

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

LARGE = "keras_inception_v3", "classic_v3", "slim_v3", "keras_efficientnet", "keras_mobilenet_v2", "keras_mobilenet_v3"


def pictures(photos):
    """What the models are asked, by file name."""
    from PIL import Image

    names = "china.jpg", "flower.jpg", "chelsea.png"
    files = {name: (photos / name).read_bytes() for name in names}
    for format in "gif", "bmp", "webp":
        data = io.BytesIO()
        Image.open(photos / "flower.jpg").convert("RGB").resize((320, 213)).save(data, format)
        files[f"flower-small.{format}"] = data.getvalue()
    data = io.BytesIO()
    Image.new("RGB", (64, 48)).save(data, "png")
    return files | {"black.png": data.getvalue()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    names = arguments.names
    if not names:
        shutil.rmtree(arguments.out, ignore_errors=True)
    (arguments.out / "photos").mkdir(parents=True, exist_ok=True)
    for name, content in pictures(arguments.photos).items():
        (arguments.out / "photos" / name).write_bytes(content)
    failed = []
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        names = names or sorted(pool.submit(building.names).result(), key=lambda name: (name not in LARGE, name))
        make = functools.partial(building.make, samples=sorted(arguments.photos.iterdir()), out=arguments.out)
        for name, (error, took) in zip(names, pool.map(make, names)):
            print(f"{name:24} {error or f'{took:.1f} s'}", flush=True)
            if error:
                failed.append(name)
    if failed:
        sys.exit(f"zoo: not built: {', '.join(failed)}")


if __name__ == "__main__":
    main()
