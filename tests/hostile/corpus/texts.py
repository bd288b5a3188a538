"""Settings, collections and YAML: bombs, numbers that cannot be, no upper end, names that are places."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.corpus.place import LONG, Case, Place, Right

Made = Callable[[Place], list[str | Path]]
SOUND = "name: small\nclasses: [{name: land, value: 0}, {name: building, value: 1}, {name: water, value: 2}]\nsplit: {train: [a, b], validation: [c], test: [d]}\n"  # fmt: skip
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGED = "a: &a {k: v}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
BOMBS: dict[str, str | bytes] = {
    "aliases that multiply": LAUGHS,
    "aliases that multiply in merge keys": MERGED,
    "an alias inside itself": "a: &a [*a]\n",
    "a mapping that merges itself": "a: &a {<<: *a}\n",
    "lists nested 50,000 deep": "a: " + "[" * 50_000,
    "mappings nested 50,000 deep": "{a: " * 50_000,
    "blocks nested 1,500 deep": "\n".join(" " * depth + "a:" for depth in range(1_500)),
    "keys nested 20,000 deep": "? " * 20_000 + "a",
    "a whole number of 6,000 digits": f"{SOUND}metres_per_pixel: {LONG}\n",
    "a number of 6,000 digits with underscores": f"{SOUND}metres_per_pixel: {'9_' * 3_000}9\n",
    "a number in base 60": f"{SOUND}metres_per_pixel: {':'.join(['59'] * 3_000)}\n",
    "a number of 290 digits in base 60": f"{SOUND}metres_per_pixel: {':'.join(['59'] * 96)}\n",
    "a float of 6,000 digits": f"{SOUND}metres_per_pixel: {LONG}.5\n",
    "a hexadecimal number of 6,000 digits": f"{SOUND}metres_per_pixel: 0x{'f' * 6_000}\n",
    "an octal number of 6,000 digits": f"{SOUND}metres_per_pixel: 0{'7' * 6_000}\n",
    "a binary number of 6,000 digits": f"{SOUND}metres_per_pixel: 0b{'1' * 6_000}\n",
    "a date in month 13": f"{SOUND}nodata: 2024-13-45\n",
    "a date in year 0": f"{SOUND}nodata: 0000-00-00\n",
    "a time in hour 99": f"{SOUND}nodata: 2024-01-01 99:99:99\n",
    "a time zone of +99": f"{SOUND}nodata: 2024-01-01T00:00:00+99:99\n",
    "a list as a key": f"{SOUND}? [a, b]\n: c\n",
    "a mapping as a key": f"{SOUND}? {{a: b}}\n: c\n",
    "a merge key of a word": f"{SOUND}<<: x\n",
    "a merge key of a number": f"{SOUND}<<: 7\n",
    "a merge key in a list of words": f"{SOUND}<<: [a, b]\n",
    "a merge key that is sound": f"base: &base {{name: x}}\n{SOUND}",
    "a tag that runs something": f"{SOUND}nodata: !!python/object/apply:os.system [ls]\n",
    "a tag of a module": f"{SOUND}nodata: !!python/name:os.system\n",
    "an unknown tag": f"{SOUND}nodata: !x 7\n",
    "bytes in base 64": f"{SOUND}nodata: !!binary aGVsbG8=\n",
    "broken base 64": f"{SOUND}nodata: !!binary é\n",
    "a set": f"{SOUND}ignore: !!set {{a, b}}\n",
    "an ordered mapping": f"{SOUND}split: !!omap [a: 1]\n",
    "an ordered mapping of rubbish": f"{SOUND}split: !!omap {{a: 1}}\n",
    "pairs of rubbish": f"{SOUND}split: !!pairs [1, 2]\n",
    "a whole number of a word": f"{SOUND}nodata: !!int abc\n",
    "a whole number of nothing": f"{SOUND}nodata: !!int ''\n",
    "a float of a word": f"{SOUND}nodata: !!float abc\n",
    "a yes of a word": f"{SOUND}nodata: !!bool abc\n",
    "a timestamp of a word": f"{SOUND}nodata: !!timestamp abc\n",
    "a mapping that is a word": f"{SOUND}split: !!map abc\n",
    "a list that is a word": f"{SOUND}classes: !!seq abc\n",
    "two documents": f"{SOUND}---\n{SOUND}",
    "a directive of another version": f"%YAML 9.9\n---\n{SOUND}",
    "a key twice": f"{SOUND}name: other\n",
    "control characters": f"{SOUND}scene: a\x07b\n",
    "zero bytes": b"name: \0\0\0\n",
    "UTF-16": SOUND.encode("utf-16"),
    "an older encoding": SOUND.replace("small", "sm\u00e4ll").encode("latin-1"),
    "half a letter of UTF-8": SOUND.encode() + b"scene: \xe2\x82",
    "a lone surrogate": SOUND + 'scene: "\\ud800"\n',
    "a name from right to left": SOUND.replace("small", '"a\u202eb"'),
    "5 MB of comments": SOUND + "# " + "x" * 5_000_000,
    "an empty file": "",
    "a word": "hello",
    "null": "null",
    "a list": "[]",
    "a tab": SOUND + "\tscene: a\n",
    "an unclosed quote": SOUND + 'scene: "a',
    "an unclosed list": SOUND + "ignore: [1, 2",
    "an alias without anchor": SOUND + "ignore: *x\n",
    "5,000 unknown settings": SOUND + "\n".join(f"mistake{number}: 1" for number in range(5_000)),
}  # fmt: skip
SOUND_ANYWAY = {"a key twice", "a set"}
VALUES: dict[str, str] = {
    "a pixel of 1e-9 m": "metres_per_pixel: 1e-9",
    "a pixel of 1e300 m": "metres_per_pixel: 1.0e+300",
    "a pixel of no number": "metres_per_pixel: .nan",
    "a pixel without end": "metres_per_pixel: .inf",
    "a pixel below zero": "metres_per_pixel: -1",
    "imagery of 1e-9 m": "native_metres_per_pixel: 1.0e-9",
    "a resolution that makes an image of 300 gigapixels": "{metres_per_pixel: 0.001, native_metres_per_pixel: 5}",
    "band 10**9": "bands: [1, 2, 1000000000]",
    "100,000 bands": "bands: " + str([1] * 100_000),
    "a band of 300 digits": f"bands: [{LONG[:300]}]",
    "a mask value of 300 digits": "classes: [{name: a, value: 0}, {name: b, value: " + LONG[:300] + "}]",
    "an ignored value of 300 digits": f"ignore: [{LONG[:300]}]",
    "nodata of 300 digits": f"nodata: {LONG[:300]}",
    "a grid of 10**9 by 10**9": "split: {by: block, grid: [1000000000, 1000000000], train: [r1c1], validation: [r1c2], test: [r1c3]}",
    "a grid of 30,000 by 30,000 for all": "split: {by: block, grid: [30000, 30000], train: ['*'], validation: [r1c2], test: [r1c3]}",
    "a grid of 300 digits": f"split: {{by: block, grid: [{LONG[:300]}, 2], train: [r1c1], validation: [r1c2], test: [r1c1]}}",
    "a buffer of 300 digits": f"split: {{by: block, grid: [2, 2], buffer: {LONG[:300]}, train: [r1c1], validation: [r1c2], test: [r2c1]}}",
    "200 stars in a pattern": "split: {train: ['" + "*a" * 200 + "b'], validation: [c], test: [d]}",
    "a pattern of 200 stars for images": "images: '" + "*a" * 200 + "/x'",
    "an expression that never ends": "scene: '(?P<scene>(([a-z])+.)+[A-Z]([a-z])+$)'",
    "an expression that is none": "scene: '(?P<scene>('",
    "an expression of 100,000 brackets": "scene: '" + "(" * 100_000 + "'",
    "an expression that repeats 4 billion times": "scene: '(?P<scene>a{4294967296})'",
    "a folder outside": "images: ../../../etc",
    "a folder of the system": "masks: /etc",
    "a root that is a device": "root: /dev",
    "a root that is a file": "root: /etc/passwd",
    "a root of 5,000 letters": "root: " + "x" * 5_000,
    "a root with a zero byte": 'root: "a\\0b"',
    "images with a zero byte": 'images: "a\\0b"',
    "a root of a user that is not there": "root: ~nobody-of-this-name/x",
    "an area of interest that is a device": "area_of_interest: area.geojson",
    "100,000 classes": "classes: " + json.dumps([{"name": f"c{n}"} for n in range(100_000)]),
    "a class of 10,000 letters": "classes: [{name: " + "x" * 10_000 + "}, {name: b}]",
    "a name of a path": "name: ../../x",
    "a name of 10,000 letters": "name: " + "x" * 10_000,
    "a name that is a list": "name: [a]",
    "max_declared_gb without end": "max_declared_gb: .inf",
}  # fmt: skip
VALUES_EITHER = {"max_declared_gb without end", "an expression that never ends", "a pattern of 200 stars for images", "a mask value of 300 digits", "an ignored value of 300 digits", "nodata of 300 digits", "200 stars in a pattern"}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "crops of 32 billion pixels": {"budget": {"crop": 32 * 10**9}},
    "crops of 8,192 pixels": {"budget": {"crop": 8192, "batch_size": 2}},
    "a batch of 10**12": {"budget": {"batch_size": 10**12}},
    "8192 x 8192 x 4096 pixels in a step": {"budget": {"crop": 8192, "batch_size": 4096}},
    "10**30 steps": {"budget": {"steps": 10**30}},
    "10**18 steps": {"budget": {"steps": 10**18}},
    "steps of 300 digits": {"budget": {"steps": int(LONG[:300])}},
    "windows of 2**40": {"evaluation": {"window": 2**40}},
    "a halo of 2**40": {"evaluation": {"halo": 2**40}},
    "tiles of 2**40": {"evaluation": {"tile": 2**40}},
    "boundaries of 1e300 m": {"evaluation": {"boundary_metres": 1e300}},
    "10**9 seeds": {"seeds": 10**9},
    "5,000 seeds": {"seeds": list(range(5_000))},
    "a seed of 300 digits": {"seeds": [int(LONG[:300])]},
    "a seed below zero": {"seeds": [-1]},
    "the same seed twice": {"seeds": [1, 1]},
    "no seeds": {"seeds": []},
    "10**9 devices": {"hardware": {"devices": 10**9}},
    "10**9 readers": {"hardware": {"readers": 10**9}},
    "a cache of 1e300 GB": {"hardware": {"cache_gb": 1e300}},
    "a device of another name": {"hardware": {"device": "cuda:../../x"}},
    "a decoder of a million channels": {"student": {"decoder_channels": [10**6] * 5}},
    "900 steps of a decoder": {"student": {"decoder_channels": [16] * 900}},
    "an encoder 10**9 deep": {"student": {"depth": 10**9}},
    "an encoder of a hub": {"student": "unet/hf-hub:owner/x"},
    "an encoder of a folder": {"student": {"encoder": "tu-local-dir:/etc"}},
    "an encoder of a hub behind tu-": {"student": {"encoder": "tu-hf-hub:owner/x"}},
    "an architecture of a hub": {"student": {"architecture": "hf-hub:owner/x"}},
    "an encoder that is a path": {"student": {"encoder": "../../etc"}},
    "an encoder that nobody knows": {"student": {"encoder": "tu-no_such_network"}},
    "an encoder of 10,000 letters": {"student": {"encoder": "x" * 10_000}},
    "an encoder of control characters": {"student": {"encoder": "a\x1b[31m\u202eb"}},
    "a learning rate of 1e308": {"budget": {"learning_rate": 1e308}},
    "a temperature of 1e308": {"recipe": {"temperature": 1e308}},
    "alpha of text": {"recipe": {"alpha": "much"}},
    "a recipe that is a list": {"recipe": [1]},
    "a teacher that is a word": {"teacher": "x"},
    "a teacher's file that is a device": {"teacher": {"checkpoints": ["/dev/zero"]}},
    "a teacher's file that is not there": {"teacher": {"checkpoints": ["../../x.safetensors"]}},
    "settings nested 50 deep": {"budget": json.loads("[" * 50 + "]" * 50)},
}  # fmt: skip


def with_text(text: str | bytes) -> Made:
    def make(place: Place) -> list[str | Path]:
        root = place.copy("collection", "c")
        place.write("c/collection.yaml", text)
        return [root]

    return make


def with_value(line: str) -> Made:
    def make(place: Place) -> list[str | Path]:
        import yaml

        root = place.copy("collection", "c")
        (root / "area.geojson").symlink_to("/dev/zero")
        values = yaml.safe_load(SOUND) | yaml.load(line, Loader=yaml.CSafeLoader)
        place.write("c/collection.yaml", json.dumps(values, default=str))
        return [root]

    return make


def study(make: Made) -> Made:
    """The same, given to `kdcore study` as the collection."""
    return lambda place: [*make(place), "--out", place.out / "study"]


def with_settings(values: Any, name: str = "s.yaml") -> Made:
    def make(place: Place) -> list[str | Path]:
        text = values if isinstance(values, str | bytes) else json.dumps(values)
        return [place.copy("collection", "c"), "--out", place.out / "study", "--settings", place.write(name, text)]

    return make


def in_place(what: str) -> Made:
    """Something else where collection.yaml should be."""

    def make(place: Place) -> list[str | Path]:
        root = place.copy("collection", "c")
        path = root / "collection.yaml"
        path.unlink()
        if what == "pipe":
            os.mkfifo(path)
        elif what == "folder":
            path.mkdir()
        elif what == "itself":
            path.symlink_to(path)
        else:
            path.symlink_to(what)
        return [path]

    return make


def evaluated(make: Made) -> Made:
    return lambda place: [place.base / "net.safetensors", *make(place), "--device", "cpu"]


BOMB, VALUE, SETTING, OPTION = "YAML bombs and rubbish", "values of a collection", "settings without an upper end", "options of commands"  # fmt: skip


def bombs(door: str, wrap: Callable[[Made], Made], names: list[str]) -> list[Case]:
    return [Case(name, door, BOMB, wrap(with_text(BOMBS[name])), right_of(name)) for name in names]


def right_of(name: str) -> Right:
    return "either" if name in SOUND_ANYWAY | VALUES_EITHER else "refused"


def options(*more: str) -> Made:
    return lambda place: [place.copy("collection", "c"), "--out", place.out / "study", *more]


def predict_options(*more: str) -> Made:
    return lambda place: [place.base / "net.safetensors", place.base / "image.tif", "--out", place.out / "maps", *more]


CASES: list[Case] = [
    Case("a sound collection", "data inspect", BOMB, with_text(SOUND), "works"),
    *bombs("data inspect", lambda make: make, list(BOMBS)),
    *bombs("study", study, list(BOMBS)[:12:3] + list(BOMBS)[18:40:4]),
    *bombs("evaluate", evaluated, list(BOMBS)[1:60:9]),
    *(Case(f"collection.yaml is {what}", "data inspect", BOMB, in_place(target)) for what, target in (("a pipe", "pipe"), ("a folder", "folder"), ("a link to itself", "itself"), ("/dev/zero", "/dev/zero"), ("/etc/shadow", "/etc/shadow"))),
    *(Case(name, "data inspect", VALUE, with_value(line), right_of(name)) for name, line in VALUES.items()),
    *(Case(f"{name}", "study", SETTING, with_settings(values)) for name, values in SETTINGS.items()),
    *(Case(f"settings: {name}", "study", SETTING, with_settings(BOMBS[name])) for name in list(BOMBS)[:10:2]),
    Case("settings that are a pipe", "study", SETTING, lambda place: (os.mkfifo(place.folder / "s.yaml"), [place.copy("collection", "c"), "--out", place.out / "study", "--settings", place.folder / "s.yaml"])[1]),
    *(Case(f"{' '.join(more)[:60]}", "study", OPTION, options(*more)) for more in (
        ("--seeds", LONG), ("--seeds", ",".join(["1"] * 100_000)[:100_000]), ("--seeds", "1,,2"), ("--steps", LONG), ("--steps", "1000000000000000000"), ("--temperature", "1e308"), ("--temperature", "nan"), ("--alpha", "nan"), ("--labels", "1e-300"), ("--labels", "nan"),
        ("--teacher", "/dev/zero"), ("--teacher", "x.onnx"), ("--recipe", "x" * 5_000), ("--preset", "../x"), ("--device", "cuda:99"))),
    *(Case(f"{' '.join(more)[:60]}", "predict", OPTION, predict_options(*more), right) for more, right in (
        (("--tile", LONG), "refused"), (("--tile", "1000000000"), "either"), (("--tile", "100000", "--flips"), "either"), (("--halo", "1000000000"), "refused"), (("--halo", "5000"), "either"), (("--threshold", "nan"), "refused"), (("--threshold", "1e308"), "refused"), (("--min-area", "1e308"), "either"), (("--min-area", "nan"), "refused"), (("--simplify", "1e308"), "either"), (("--simplify", "nan"), "refused"), (("--simplify", "-1"), "refused"),
        (("--bands", LONG), "refused"), (("--bands", "1,2,1000000000"), "refused"), (("--bands", "\u00b2"), "refused"), (("--nodata", "1e400"), "either"), (("--nodata", "nan"), "either"))),
]  # fmt: skip
