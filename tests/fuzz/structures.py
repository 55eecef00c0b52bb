"""HDF5 that libraries read without complaint, and that a reader of datastores must not believe.

Each function changes an open copy of a datastore. What must never be reached lies in `Outside`.
"""

from __future__ import annotations

import json
import pickle
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

CURVES = ("hcurves-stats", "hcurves-rlzs")
COLUMNS = ("sitecol/lon", "sitecol/lat", "sitecol/vs30", "sitecol/custom_site_id")
TABLES = ("weights", "full_lt/sm_data", "full_lt/gsim_lt", "full_lt/source_model_lt")
NEEDED = ("oqparam", "sitecol", *COLUMNS, *CURVES, *TABLES, "full_lt")

OUTSIDE_POE = np.float32(0.123456)
"""Stands in the file outside alone: curves that hold it were read from there."""

TEXTS = (
    "=cmd|' /C calc'!A0", "+1+1", "-2", "@SUM(1)", "a|b", "`id`", "[x](http://evil)", "<img src=x onerror=alert(1)>",
    "\x1b[31mred", "\x9b2J", "a\nb", "\r", "\0", "\u202eevil", "\ud800", "a:b", "a#b", "../../etc/passwd", "$(touch x)",
    "'; DROP TABLE x", "é", "", " ", "x" * 70_000, "%s%n", "{0}", "𝕏",
)  # fmt: skip


@dataclass(frozen=True)
class Outside:
    """What no reading may touch: a datastore of other values, and a file that loading the planted pickle would make."""

    file: Path
    mark: Path

    def pickled(self) -> bytes:
        return pickle.dumps(_Mark(str(self.mark)))


class _Mark:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def _held(file: h5py.File, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if name in file]


def _replace(file: h5py.File, name: str, value: Any, **options: Any) -> None:
    """Put another dataset in the place of one, with the attributes of the old."""
    attributes = dict(file[name].attrs)
    del file[name]
    made = file.create_dataset(name, data=value, **options)
    for key, attribute in attributes.items():
        made.attrs[key] = attribute


def remove(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    del file[rng.choice(_held(file, NEEDED))]


def rename(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """Give the place of one object to another."""
    a, b = rng.sample([name for name in _held(file, NEEDED) if "/" not in name], 2)
    file.move(a, "aside")
    file.move(b, a)
    file.move("aside", b)


def link(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    name = rng.choice(_held(file, NEEDED))
    del file[name]
    target = rng.choice(("/" + name, "/", "/nowhere", "/sitecol", "."))
    soft = rng.random() < 0.3
    file[name] = h5py.SoftLink(target) if soft else h5py.ExternalLink(str(outside.file), "/" + name)


def link_root(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """Everything behind a chain of links that ends in itself or outside."""
    for name in _held(file, ("oqparam", "sitecol", *CURVES)):
        del file[name]
        file[name] = rng.choice((h5py.SoftLink("/" + name), h5py.ExternalLink(str(outside.file), "/" + name)))


def hard_link(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """A group within itself, or one object under two names."""
    groups = _held(file, ("sitecol", "full_lt"))
    if rng.random() < 0.5 and groups:
        group = rng.choice(groups)
        child = rng.choice(("lon", "lat", "custom_site_id", "again", "sm_data"))
        if child in file[group]:
            del file[group][child]
        file[group][child] = file[rng.choice((group, "/"))]
        return
    a, b = rng.sample(_held(file, NEEDED), 2)
    if b.startswith(a + "/"):
        return
    kept = file[b]
    del file[a]
    file[a] = kept


def external_storage(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    name = rng.choice([name for name in _held(file, NEEDED) if isinstance(file[name], h5py.Dataset)])
    shape, dtype = file[name].shape, file[name].dtype
    attributes = dict(file[name].attrs)
    del file[name]
    if dtype.hasobject:
        dtype = np.dtype("S8")
    size = int(np.prod(shape or (1,))) * dtype.itemsize
    made = file.create_dataset(name, shape or (1,), dtype, external=[(str(outside.file), rng.choice((0, 2048)), size)])
    for key, attribute in attributes.items():
        made.attrs[key] = attribute


def virtual(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    name = rng.choice([n for n in _held(file, (*CURVES, *COLUMNS, "weights")) if isinstance(file[n], h5py.Dataset)])
    shape, dtype, attributes = file[name].shape, file[name].dtype, dict(file[name].attrs)
    source = rng.choice((str(outside.file), ".", file.filename))
    layout = h5py.VirtualLayout(shape, dtype, maxshape=(None, *shape[1:]))
    if rng.random() < 0.3:
        # A mapping without end: HDF5 has to open the source to know even the shape.
        endless = h5py.VirtualSource(source, name, shape, dtype, maxshape=(None, *shape[1:]))
        layout[0 : h5py.h5s.UNLIMITED, ...] = endless[0 : h5py.h5s.UNLIMITED, ...]
    else:
        layout[...] = h5py.VirtualSource(source, name, shape, dtype)
    del file[name]
    made = file.create_virtual_dataset(name, layout, fillvalue=0.5 if dtype.kind == "f" else None)
    for key, attribute in attributes.items():
        made.attrs[key] = attribute


def absurd_shape(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """Sizes that the file does not hold: the space is promised, chunks are not there."""
    name = rng.choice([n for n in _held(file, (*CURVES, *COLUMNS, *TABLES)) if isinstance(file[n], h5py.Dataset)])
    old = file[name]
    dtype, n_axes, attributes = old.dtype, len(old.shape), dict(old.attrs)
    if 0 in old.shape or not n_axes:
        return
    # The index of the chunks takes eight bytes a chunk, and so bounds what can be promised in a small file.
    huge = rng.choice((2**20, 2**27, 2**31, 2**33, 2**36, 2**40))
    shape = list(old.shape)
    shape[rng.randrange(n_axes)] = huge
    del file[name]
    # HDF5 refuses to make chunks of 4 GB or more, or more chunks than 32 bits count.
    chunks = tuple(max(1, min(length, 2 ** rng.randrange(24)) // (1 if length == huge else 8)) for length in shape)
    while np.prod(chunks, dtype=float) * dtype.itemsize > 2**25 or huge / chunks[shape.index(huge)] > 2**20:
        chunks = tuple(2**22 // dtype.itemsize if length == huge else 1 for length in shape)
        break
    options: dict[str, Any] = {"chunks": chunks, "fillvalue": 0.5 if dtype.kind == "f" else None}
    if rng.random() < 0.3:
        options["compression"] = "gzip"
    made = file.create_dataset(name, shape, dtype, **options)
    for key, attribute in attributes.items():
        made.attrs[key] = attribute
    countable = np.prod(shape, dtype=float) < 2**60 and huge // chunks[shape.index(huge)] <= 2**20
    if countable and rng.random() < 0.5 and not dtype.hasobject:
        made[(0,) * n_axes] = np.zeros((), dtype)


def compressed_shape(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """A bomb of gzip, once and twice: some hundred MB of one value that take next to no room."""
    name = rng.choice([n for n in _held(file, (*CURVES, *COLUMNS)) if isinstance(file[n], h5py.Dataset)])
    old = file[name]
    dtype, attributes = old.dtype, dict(old.attrs)
    rows = rng.choice((10**5, 10**6, 10**7))
    shape = (rows, *old.shape[1:])
    del file[name]
    chunk = (min(rows, 2**16), *old.shape[1:])
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(chunk)
    for _ in range(rng.choice((1, 2, 3))):
        plist.set_deflate(9)
    made = h5py.h5d.create(
        file.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), h5py.h5s.create_simple(shape), plist
    )
    block = np.zeros(chunk, dtype)
    # A few chunks are written; all others would be alike, and writing them costs the fuzzer what it costs the reader.
    for start in range(0, min(rows, 2**18), chunk[0]):
        stop = min(rows, start + chunk[0])
        h5py.Dataset(made)[start:stop] = block[: stop - start]
    for key, attribute in attributes.items():
        h5py.Dataset(made).attrs[key] = attribute


def other_shape(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """One axis longer, shorter, empty, gone or added."""
    name = rng.choice([n for n in _held(file, (*CURVES, *COLUMNS, *TABLES)) if isinstance(file[n], h5py.Dataset)])
    values = file[name][()]
    axis = rng.randrange(values.ndim)
    match rng.randrange(6):
        case 0:
            values = np.concatenate([values, values], axis)
        case 1:
            values = np.take(values, range(values.shape[axis] - 1), axis)
        case 2:
            values = np.take(values, [], axis)
        case 3:
            values = values[0]
        case 4:
            values = values[np.newaxis]
        case _:
            values = values.reshape(-1)
    _replace(file, name, values)


def null_space(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    name = rng.choice([n for n in _held(file, NEEDED) if isinstance(file[n], h5py.Dataset)])
    dtype = file[name].dtype
    _replace(file, name, h5py.Empty("f4" if dtype.hasobject or dtype.names else dtype))


def other_dtype(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    name = rng.choice([n for n in _held(file, (*CURVES, *COLUMNS, "weights")) if isinstance(file[n], h5py.Dataset)])
    values = file[name][()]
    dtype = rng.choice(("f2", "f8", ">f4", "i1", "u8", "S5", "c8", "bool", "V4", "enum", "object", "vlen", "ref"))
    if dtype == "object":
        _replace(file, name, np.full(values.shape, "x", object), dtype=h5py.string_dtype())
    elif dtype == "enum":
        made = np.zeros(values.shape, np.uint8)
        _replace(file, name, made, dtype=h5py.enum_dtype({"A": 0, "B": 1}))
    elif dtype == "vlen":
        attributes = dict(file[name].attrs)
        del file[name]
        made = file.create_dataset(name, values.shape, h5py.vlen_dtype(np.float32))
        made[(0,) * values.ndim] = np.ones(3, np.float32)
        for key, attribute in attributes.items():
            made.attrs[key] = attribute
    elif dtype == "ref":
        _replace(file, name, np.full(values.shape, file.ref, h5py.ref_dtype), dtype=h5py.ref_dtype)
    elif dtype == "V4":
        _replace(file, name, np.zeros(values.shape, "V4"))
    else:
        with np.errstate(all="ignore"):
            _replace(file, name, values.astype(dtype) if values.dtype.kind in "fiu" else np.zeros(values.shape, dtype))


def other_fields(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """Tables whose fields are gone, renamed, of another type or in another order."""
    names = [name for name in _held(file, TABLES) if isinstance(file[name], h5py.Dataset) and file[name].dtype.names]
    if not names:
        return
    name = rng.choice(names)
    table = file[name][()]
    fields = list(table.dtype.names)
    match rng.randrange(5):
        case 0:
            fields.remove(rng.choice(fields))
            if fields:
                _replace(file, name, np.array(table[fields].tolist(), [(f, file[name].dtype[f]) for f in fields]))
        case 1:
            changed = rng.choice(fields)
            described = [(f if f != changed else "evil\n" + f, file[name].dtype[f]) for f in fields]
            _replace(file, name, np.array(table.tolist(), described))
        case 2:
            changed = rng.choice(fields)
            described = [(f, file[name].dtype[f] if f != changed else np.dtype("f4")) for f in fields]
            rows = [tuple(0 if f == changed else row[f] for f in fields) for row in table]
            _replace(file, name, np.array(rows, described))
        case 3:
            _replace(file, name, table[::-1])
        case _:
            _replace(file, name, np.concatenate([table] * rng.choice((2, 50))))


def odd_numbers(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    name = rng.choice([n for n in _held(file, (*CURVES, *COLUMNS, "weights")) if isinstance(file[n], h5py.Dataset)])
    values = file[name][()]
    if values.dtype.kind != "f" or not values.size:
        return
    with np.errstate(all="ignore"):
        number = rng.choice((np.nan, np.inf, -np.inf, -0.0, 1e-45, 1e38, -1.0, 2.0, 1e300))
        values.flat[rng.randrange(values.size)] = number
    file[name][...] = values


def odd_table_numbers(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    names = [name for name in _held(file, TABLES) if isinstance(file[name], h5py.Dataset) and file[name].dtype.names]
    if not names:
        return
    name = rng.choice(names)
    table = file[name][()]
    numeric = [f for f in table.dtype.names if table.dtype[f].kind in "fiu"]
    if numeric and len(table):
        field = rng.choice(numeric)
        number = rng.choice((np.nan, np.inf, -1.0, 0.0, 1e300)) if table.dtype[field].kind == "f" else 2**31
        with np.errstate(all="ignore"):
            table[field][rng.randrange(len(table))] = number
        file[name][...] = table


def hostile_texts(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """Names and ids that mean something to a terminal, a spreadsheet, Markdown, a shell or a key."""
    text = rng.choice(TEXTS)
    encoded = text.encode("utf-8", "surrogatepass")
    match rng.randrange(4):
        case 0:
            n_sites = len(file["sitecol/lon"])
            if "sitecol/custom_site_id" in file:
                del file["sitecol/custom_site_id"]
            ids = [b"S%d" % i for i in range(n_sites)]
            ids[rng.randrange(n_sites)] = encoded[:100]
            file["sitecol/custom_site_id"] = np.array(ids, "S100")
        case 1:
            tables = [name for name in _held(file, TABLES) if file[name].dtype.names]
            if tables:
                name = rng.choice(tables)
                table = file[name][()]
                fields = [f for f in table.dtype.names if table.dtype[f].hasobject]
                table[rng.choice(fields)][rng.randrange(len(table))] = encoded.replace(b"\0", b"?")
                file[name][...] = table
        case 2:
            for name in _held(file, CURVES):
                described = json.loads(file[name].attrs["json"])
                kind = rng.choice(("imt", "stat"))
                if isinstance(described.get(kind), list) and described[kind]:
                    described[kind][-1] = text[:1000]
                    file[name].attrs["json"] = json.dumps(described)
        case _:
            file.attrs[rng.choice(("engine_version", "date", "checksum32"))] = np.void(encoded[:60_000] or b"\0")


def odd_parameters(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """The job's parameters: other types, numbers without end, nesting without end, pickles."""
    text = bytes(np.asarray(file["oqparam"][()]).tobytes())
    parameters = json.loads(text.decode())
    name = rng.choice(
        ("hazard_imtls", "calculation_mode", "investigation_time", "reference_vs30_value", "quantiles", "inputs",
         "soil_intensities", "number_of_logic_tree_samples", "sampling_method", "random_seed", "mean", "description")
    )  # fmt: skip
    value = rng.choice(
        (None, -1, 0, 2**70, 1e308, float("nan"), float("inf"), True, "", "x", [], {}, [None], [[1]], ["a"], {"PGA": 1},
         {"PGA": []}, {"PGA": [float("nan")]}, {"PGA": ["a"]}, {"PGA": [1e400]}, {"PGA": [2**1100]}, *TEXTS)
    )  # fmt: skip
    match rng.randrange(6):
        case 0 | 1 | 2:
            parameters[name] = value
            made = json.dumps(parameters).encode()
        case 3:
            made = rng.choice((b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5_000, text[: len(text) // 2], b"\xff" * 100))
        case 4:
            made = outside.pickled()
        case _:
            made = rng.choice((b"[1, 2]", b'"text"', b"null", b"{}", b"1e400"))
    del file["oqparam"]
    file["oqparam"] = rng.choice((np.void(made), np.frombuffer(made, np.uint8)))


def parameter_group(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """`oqparam` as a group, as a table of literals, or as a reference."""
    del file["oqparam"]
    match rng.randrange(4):
        case 0:
            deep = file.create_group("oqparam")
            for _ in range(rng.choice((1, 200))):
                deep = deep.create_group("g")
        case 1:
            literal = rng.choice(("(" * 5_000, "__import__('os').system('x')", "9" * 5_000, "{" * 99, "-" * 90_000))
            rows = [("calculation_mode", literal), ("hazard_imtls", "{'PGA': [0.1]}")]
            file["oqparam"] = np.array(rows, [("par_name", h5py.string_dtype()), ("par_value", h5py.string_dtype())])
        case 2:
            file["oqparam"] = file["sitecol"].ref if "sitecol" in file else file.ref
        case _:
            group = file.create_group("oqparam")
            for number in range(1_000):
                group[f"{number}"] = b"{}"


def deep_groups(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """A deep tree in the place of a group that is needed, or beside all."""
    name = rng.choice(("sitecol", "full_lt", "aside", "weights", "hcurves-stats"))
    if name in file and rng.random() < 0.7:
        del file[name]
    group = file.require_group(name) if not isinstance(file.get(name), h5py.Dataset) else file.create_group("aside")
    for _ in range(rng.choice((10, 1_000))):
        group = group.create_group("g")


def odd_attributes(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """Attributes that are giant, many, pickled, or of types that no engine writes."""
    place = file[rng.choice(["/", *_held(file, (*CURVES, "full_lt", "full_lt/source_model_lt"))])]
    name = rng.choice(("json", "engine_version", "date", "checksum32", "trts", "num_samples", "seed", "other"))
    values = (
        np.void(outside.pickled()), outside.pickled(), np.zeros(60_000, np.uint8), np.zeros((2, 3)), h5py.Empty("f4"),
        np.array([1, 2]), -1, 2**63 - 1, 10**6, float("nan"), float("inf"), "", "x" * 60_000, b"\xff\xfe", True,
        np.array(["a", "b"], object), "[" * 50_000, '{"imt": "PGA", "stat": 5}', '{"imt": [1, 2]}', "null", 1j,
        np.array([("a", 1)], [("n", "S5"), ("m", "i4")]), file.ref,
        json.dumps({"imt": ["PGA"] * 9, "stat": ["mean"] * 9}),
    )  # fmt: skip
    value = rng.choice(values)
    if isinstance(value, h5py.Reference):
        place.attrs.create(name, value, dtype=h5py.ref_dtype)
    else:
        place.attrs[name] = value
    if rng.random() < 0.1:
        for number in range(2_000):
            place.attrs[f"n{number}"] = number


def giant_attribute(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """An attribute of some MB, which newer files may hold; scaled down, so that many fit into a run."""
    place = file[rng.choice(["/", *_held(file, (*CURVES, "full_lt"))])]
    name = rng.choice(("json", "engine_version", "other", "trts"))
    if name in place.attrs:
        del place.attrs[name]
    size = rng.choice((10**6, 2 * 10**7))
    place.attrs.create(name, np.frombuffer(b"x" * size, f"S{rng.choice((1, 1000))}"))


def chunked(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """The same values in chunks, filtered in ways that HDF5 knows: these are read right."""
    name = rng.choice([n for n in _held(file, (*CURVES, *COLUMNS)) if isinstance(file[n], h5py.Dataset)])
    options: dict[str, Any] = rng.choice(
        ({"compression": "gzip"}, {"compression": "lzf", "shuffle": True}, {"fletcher32": True}, {"chunks": True})
    )
    if len(file[name].shape) and 0 not in file[name].shape:
        _replace(file, name, file[name][()], **options)


def bad_filter(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """A filter that nobody has, chunks that do not inflate, chunks with an absurd size."""
    name = rng.choice([n for n in _held(file, (*CURVES, *COLUMNS, "weights")) if isinstance(file[n], h5py.Dataset)])
    old = file[name]
    shape, dtype, attributes = old.shape, old.dtype, dict(old.attrs)
    if 0 in shape:
        return
    del file[name]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(tuple(max(1, min(length, 2**31 // 64)) for length in shape))
    unknown = rng.random() < 0.5
    if unknown:
        plist.set_filter(rng.choice((32000, 32015, 300, 65000)), h5py.h5z.FLAG_OPTIONAL, (1, 2))
    plist.set_deflate(4)
    space = h5py.h5s.create_simple(shape)
    made = h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, plist)
    raw = rng.choice((b"", b"\0", rng.randbytes(100), b"\x78\x9c" + rng.randbytes(50)))
    if raw:
        made.write_direct_chunk((0,) * len(shape), raw, filter_mask=rng.choice((0, 0xFFFFFFFF, 1)))
    for key, attribute in attributes.items():
        h5py.Dataset(made).attrs[key] = attribute


def long_texts(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """Thousands of rows that all show one long text: little in the file, much in memory."""
    names = [n for n in _held(file, ("full_lt/sm_data", "full_lt/gsim_lt")) if isinstance(file[n], h5py.Dataset)]
    if not names:
        return
    name = rng.choice(names)
    table = file[name][()]
    fields = [f for f in table.dtype.names or () if table.dtype[f].hasobject]
    if not fields or not len(table):
        return
    rows = np.repeat(table[:1], rng.choice((10, 3_000)))
    for field in fields:
        rows[field] = b"x" * rng.choice((10, 100_000)) if len(rows) < 100 else b"x" * 30
    _replace(file, name, rows)


def many_realisations(file: h5py.File, rng: random.Random, outside: Outside) -> None:
    """A logic tree that says it has more paths, or samples, than memory holds."""
    match rng.randrange(3):
        case 0 if "full_lt/sm_data" in file:
            table = file["full_lt/sm_data"][()]
            if table.dtype.names and "samples" in table.dtype.names and len(table):
                table["samples"] = rng.choice((2**20, 2**31, 2**32 - 1))
                file["full_lt/sm_data"][...] = table
            if "full_lt/source_model_lt" in file:
                file["full_lt/source_model_lt"].attrs["num_samples"] = rng.choice((1, 2**31, 2**40))
            if rng.random() < 0.5:
                for name in _held(file, ("weights", "hcurves-rlzs")):
                    del file[name]
        case 1 if "full_lt/gsim_lt" in file:
            table = file["full_lt/gsim_lt"][()]
            rows = np.concatenate([np.repeat(table[:1], 60) for _ in range(8)])
            for number, row in enumerate(rows):
                row["trt"] = f"T{number // 60}".encode()
            _replace(file, "full_lt/gsim_lt", rows)
            file["full_lt"].attrs["trts"] = [f"T{n}" for n in range(8)]
            if rng.random() < 0.7:
                for name in _held(file, ("weights", "hcurves-rlzs")):
                    del file[name]
        case _:
            if "full_lt" in file:
                file["full_lt"].attrs["oversampling"] = "reduce-rlzs"
                file["full_lt"].attrs["num_samples"] = rng.choice((-1, 10, 2**40))
