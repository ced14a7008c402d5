#!/usr/bin/env python3
"""Copies sample photos out of well-known Python packages: `photos.py PHOTOS ORIGINALS`.

The folder PHOTOS gets what the demo shows and most tests use, ORIGINALS twenty photos of many
kinds, for tests that state how far two ways of decoding are apart.

The packages' wheels are downloaded with pip, not installed: their code and dependencies are not needed. The photos
stay in the checkout's ignored folder.
"""

import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

# package: {path in its wheel: sha256}
PHOTOS = {
    "scikit-learn==1.9.1": {
        "sklearn/datasets/images/china.jpg": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        "sklearn/datasets/images/flower.jpg": "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
    },
    "scikit-image==0.26.0": {
        "skimage/data/astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "skimage/data/camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        "skimage/data/chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "skimage/data/coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "skimage/data/horse.png": "c7fb60789fe394c485f842291ea3b21e50d140f39d6dcb5fb9917cc178225455",
        "skimage/data/hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
        "skimage/data/motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
        "skimage/data/rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    },
    # Not a photo: a drawing, so that not all samples have the same label.
    "matplotlib==3.11.2": {
        "matplotlib/mpl-data/sample_data/logo2.png": "0d7371e055decaac47cb6e809af3442e9c1ecd02f1c1e2d063d1cfee4b4a21d7",
    },
}

# Of people, things and textures, and what microscopes and telescopes see.
MORE = {
    "scikit-image==0.26.0": {
        "skimage/data/brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
        "skimage/data/cell.png": "8d23a7fb81f7cc877cd09f330357fc7f595651306e84e17252f6e0a1b3f61515",
        "skimage/data/clock_motion.png": "f029226b28b642e80113d86622e9b215ee067a0966feaf5e60604a1e05733955",
        "skimage/data/coins.png": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
        "skimage/data/grass.png": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
        "skimage/data/gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
        "skimage/data/ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
        "skimage/data/moon.png": "78739619d11f7eb9c165bb5d2efd4772cee557812ec847532dbb1d92ef71f577",
        "skimage/data/motorcycle_right.png": "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797",
        "skimage/data/retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
    },
    "matplotlib==3.11.2": {
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg": "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
    },
}

DRAWINGS = "horse.png", "logo2.png"


def main(photos, originals):
    photos, originals = pathlib.Path(photos), pathlib.Path(originals)
    for target in photos, originals:
        target.mkdir(parents=True, exist_ok=True)
    for package, files in PHOTOS.items():
        with tempfile.TemporaryDirectory() as temporary:
            # Any wheel will do, whatever Python runs here: only pictures are taken from it.
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--python-version=3.11"]
            if not sys.stderr.isatty():
                pip.append("--quiet")
            subprocess.run([*pip, "--dest", temporary, package], check=True)
            (wheel,) = pathlib.Path(temporary).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for path, digest in (files | MORE.get(package, {})).items():
                    data = archive.read(path)
                    if hashlib.sha256(data).hexdigest() != digest:
                        sys.exit(f"photos: {path} of {package} is not the file it used to be")
                    name = pathlib.Path(path).name
                    if path in files:
                        (photos / name).write_bytes(data)
                    if name not in DRAWINGS:
                        (originals / name).write_bytes(data)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
