"""Writes the Arrow and Parquet files that the tests read, and their values as JSON.

    pip install pyarrow datasets pillow
    python tests/formats/make_arrow.py

Made with pyarrow 26.0.1 and datasets 5.2.0. Writes tests/formats/arrow and tests/formats/parquet anew.
"""

import datetime
import io
import json
import pathlib
import shutil

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from PIL import Image

HERE = pathlib.Path(__file__).parent
ARROW = HERE / "arrow"
PARQUET = HERE / "parquet"
CORPUS = HERE.parent.parent / "fuzz" / "corpus"
NUM_ROWS = 11


def columns(first, num_rows):
    """Rows `first..first + num_rows` of one column for each type that is read."""
    rows = range(first, first + num_rows)
    words = [f"word {row}" + "ü" * (row % 3) for row in rows]
    data = [bytes([row, 255 - row]) * (1 + row % 9) for row in rows]

    def array(values, kind):
        return pa.array(values, kind)

    result = {}
    for name in ["i8", "i16", "i32", "i64"]:
        result[name] = array([(row - 3) * 7 for row in rows], getattr(pa, "int" + name[1:])())
    for name in ["u8", "u16", "u32", "u64"]:
        result[name] = array([row * 9 for row in rows], getattr(pa, "uint" + name[1:])())
    result["f16"] = pa.array(np.array([row / 4 - 1 for row in rows], np.float16))
    result["f32"] = array([row / 8 - 1 for row in rows], pa.float32())
    result["f64"] = array([row / 1024 for row in rows], pa.float64())
    result["bool"] = array([row % 3 == 0 for row in rows], pa.bool_())
    result["text"] = array(words, pa.string())
    result["large_text"] = array(words, pa.large_string())
    result["binary"] = array(data, pa.binary())
    result["large_binary"] = array(data, pa.large_binary())
    result["fixed_binary"] = array([bytes([row, 1, 2]) for row in rows], pa.binary(3))
    result["fixed"] = array([[row * 6.0 + at for at in range(6)] for row in rows], pa.list_(pa.float32(), 6))
    result["list"] = array([[row * 10 + at for at in range(row % 4)] for row in rows], pa.list_(pa.int32()))
    result["large_list"] = array([[row + 0.5] * (row % 3) for row in rows], pa.large_list(pa.float64()))
    nested = [[[row, at, 7] for at in range(2)] for row in rows]
    result["nested"] = array(nested, pa.list_(pa.list_(pa.int16())))
    result["fixed_nested"] = array(nested, pa.list_(pa.list_(pa.int16(), 3), 2))
    result["ragged"] = array([[[row] * at for at in range(3)] for row in rows], pa.list_(pa.list_(pa.int16())))
    result["bools"] = array([[row % 2 == 0, True] for row in rows], pa.list_(pa.bool_(), 2))
    result["dictionary"] = pa.array([f"class {row % 3}" for row in rows]).dictionary_encode()
    result["date"] = array([datetime.date(2020, 1, 1 + row) for row in rows], pa.date32())
    result["time"] = array([row * 1000 for row in rows], pa.timestamp("us"))
    result["null_i32"] = array([None if row % 4 == 1 else row for row in rows], pa.int32())
    result["null_text"] = array([None if row % 4 == 2 else f"{row}" for row in rows], pa.string())
    result["null_fixed"] = array([None if row % 4 == 3 else [row, None if row == 4 else 1] for row in rows],
                                 pa.list_(pa.int32(), 2))
    return result


def table(first, num_rows, views=False):
    result = columns(first, num_rows)
    if views:
        result["text_view"] = result["text"].cast(pa.string_view())
        result["binary_view"] = result["binary"].cast(pa.binary_view())
    return pa.table(result)


def plain(value):
    """A value as JSON has it."""
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, datetime.datetime):
        return (value - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.date):
        return (value - datetime.date(1970, 1, 1)).days
    if isinstance(value, (np.floating, np.integer)):
        return value.item()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


def write_expected(path, tables):
    whole = {}
    for name in tables[0].column_names:
        values = [value for part in tables for value in part[name].to_pylist()]
        whole[name] = [plain(value) for value in values]
    path.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in whole.items()) + "\n}\n")


def write_arrow(path, tables, new, **options):
    with pa.OSFile(str(path), "wb") as out:
        with new(out, tables[0].schema, options=ipc.IpcWriteOptions(**options)) as writer:
            for part in tables:
                for batch in part.combine_chunks().to_batches():
                    writer.write_batch(batch)


def png(row):
    image = Image.fromarray(np.full((2, 3, 3), row * 20, np.uint8))
    out = io.BytesIO()
    image.save(out, "png")
    return out.getvalue()


def split(first, num_rows):
    rows = range(first, first + num_rows)
    features = datasets.Features({
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["cat", "dog", "bird"]),
        "features": datasets.Sequence(datasets.Value("float32"), length=3),
        "matrix": datasets.Array2D((2, 2), "float32"),
        "tokens": datasets.Sequence(datasets.Value("int64")),
        "text": datasets.Value("string"),
        "flag": datasets.Value("bool"),
        "score": datasets.Value("float64"),
    })
    return datasets.Dataset.from_dict({
        "image": [{"bytes": png(row), "path": f"{row}.png"} for row in rows],
        "label": [-1 if row == 9 else (row * 2) % 3 for row in rows],
        "features": [[row, row + 0.5, -row] for row in rows],
        "matrix": [[[row, 1], [2, 3]] for row in rows],
        "tokens": [list(range(row)) for row in rows],
        "text": [f"number {row}" for row in rows],
        "flag": [row % 2 == 0 for row in rows],
        "score": [None if row == 2 else row / 2 for row in rows],
    }, features=features)


def main():
    for directory in [ARROW, PARQUET]:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()

    parts = [table(0, 6, views=True), table(6, NUM_ROWS - 6, views=True)]
    # One dictionary for both, as a file must have it; a stream may have another one later on.
    write_arrow(ARROW / "plain.arrow", parts, ipc.new_file, unify_dictionaries=True)
    write_arrow(ARROW / "plain.stream", parts, ipc.new_stream)
    write_arrow(ARROW / "plain.v4", parts, ipc.new_stream, metadata_version=ipc.MetadataVersion.V4)
    write_expected(ARROW / "plain.json", parts)

    def colours(*values):
        return pa.table({"colour": pa.array(values).dictionary_encode()})

    replaced = [colours("red", "green", "red"), colours("blue", "red")]
    write_arrow(ARROW / "replaced.stream", replaced, ipc.new_stream)
    grown = [colours("red", "green", "red"), colours("red", "green", "blue")]
    write_arrow(ARROW / "delta.stream", grown, ipc.new_stream, emit_dictionary_deltas=True)
    small = [pa.table({"x": pa.array(range(100), pa.int32())})]
    write_arrow(ARROW / "compressed.stream", small, ipc.new_stream, compression="lz4")
    write_arrow(ARROW / "empty.arrow", [small[0].slice(0, 0)], ipc.new_file)

    saved = datasets.DatasetDict({"train": split(0, 7), "test": split(7, 3)})
    saved.save_to_disk(ARROW / "saved", num_shards={"train": 2, "test": 1})
    for name, part in [("train", split(0, 7)), ("test", split(7, 3))]:
        raw = part.cast_column("image", datasets.Image(decode=False)).with_format("arrow")[:]
        write_expected(ARROW / f"saved-{name}.json", [raw])

    # As `datasets` keeps images that it has not copied: the path alone.
    paths = ARROW / "paths"
    paths.mkdir()
    (paths / "images").mkdir()
    (paths / "images" / "a.png").write_bytes(png(1))
    images = pa.array([{"bytes": None, "path": path} for path in ["images/a.png", "../plain.json", "images/none.png"]]
                      + [{"bytes": None, "path": None}, None, {"bytes": b"abc", "path": None}],
                      pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    write_arrow(paths / "data-00000-of-00001.arrow", [pa.table({"image": images})], ipc.new_stream)
    (paths / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (paths / "dataset_info.json").write_text(json.dumps({"features": {"image": {"_type": "Image"}}}))

    whole = table(0, NUM_ROWS)
    write_expected(PARQUET / "plain.json", [whole])
    # With and without dictionaries. Pages of two rows, so that a row group has several.
    for codec, version, use_dictionary in [("none", "1.0", True), ("none", "2.0", False), ("snappy", "1.0", False),
                                           ("gzip", "2.0", True), ("zstd", "1.0", True), ("lz4", "2.0", False)]:
        pq.write_table(whole, PARQUET / f"{codec}-v{version[0]}.parquet", row_group_size=4, compression=codec,
                       data_page_version=version, write_batch_size=2, data_page_size=1, use_dictionary=use_dictionary,
                       write_statistics=version == "1.0")
    delta = {"text": "DELTA_BYTE_ARRAY", "binary": "DELTA_LENGTH_BYTE_ARRAY", "i64": "DELTA_BINARY_PACKED",
             "i32": "DELTA_BINARY_PACKED", "f32": "BYTE_STREAM_SPLIT", "f64": "BYTE_STREAM_SPLIT",
             "fixed_binary": "DELTA_BYTE_ARRAY"}
    pq.write_table(whole.select(list(delta)), PARQUET / "delta.parquet", row_group_size=4, compression="snappy",
                   use_dictionary=False, column_encoding=delta)
    pq.write_table(small[0], PARQUET / "brotli.parquet", compression="brotli")

    parts = PARQUET / "split"
    parts.mkdir()
    # Uploaded data sets hold images in this form.
    for name, first, num_rows in [("train-00000-of-00002", 0, 4), ("train-00001-of-00002", 4, 3),
                                  ("test-00000-of-00001", 7, 3)]:
        split(first, num_rows).to_parquet(parts / f"{name}.parquet", batch_size=2)

    write_corpus(CORPUS / "arrow", CORPUS / "parquet")


def write_corpus(arrow, parquet):
    """Small files for the fuzzers to start from."""
    for directory in [arrow, parquet]:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    whole = table(0, 5, views=True)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    small = {
        "numbers": whole.select(["i8", "f32", "bool"]),
        "halves": whole.select(["f16", "time", "u64"]),
        "nulls": whole.select(["null_i32", "null_text"]),
        "text": whole.select(["text", "large_text"]),
        "binary": whole.select(["binary", "fixed_binary"]),
        "lists": pa.table({"x": pa.array([[0.5], None, [], [1, None]], pa.list_(pa.float32()))}),
        "fixed": whole.select(["fixed_nested", "null_fixed"]),
        "nested": whole.select(["nested"]),
        "dictionary": whole.select(["dictionary"]),
        "image": pa.table({"image": pa.array([{"bytes": b"abc", "path": "a"}, None], image)}),
    }
    for name, part in small.items():
        batches = [part.slice(0, 3), part.slice(3)]
        new = ipc.new_file if len(name) % 2 else ipc.new_stream
        write_arrow(arrow / name, batches, new)
        pq.write_table(part, parquet / name, row_group_size=3, store_schema=False, use_dictionary=len(name) % 2 == 0,
                       compression=["none", "snappy", "gzip", "zstd", "lz4"][len(name) % 5],
                       data_page_version=["1.0", "2.0"][len(name) % 2])
    write_arrow(arrow / "views", [whole.select(["text_view", "binary_view"])], ipc.new_stream)
    label = datasets.Features({"label": datasets.ClassLabel(names=["a", "b"])})
    labels = datasets.Dataset.from_dict({"label": [1, 0]}, features=label)
    write_arrow(arrow / "labels", [labels.with_format("arrow")[:]], ipc.new_stream)
    labels.to_parquet(parquet / "labels")
    delta = {"text": "DELTA_BYTE_ARRAY", "binary": "DELTA_LENGTH_BYTE_ARRAY", "i32": "DELTA_BINARY_PACKED"}
    for name, encoding in delta.items():
        pq.write_table(whole.select([name]), parquet / f"delta-{name}", use_dictionary=False, compression="none",
                       column_encoding={name: encoding}, store_schema=False)


main()
