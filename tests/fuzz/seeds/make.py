"""Makes the seeds that embmap does not write itself: columns as pyarrow writes them.

    python3 tests/fuzz/seeds/make.py

The first byte of each chooses the name that the target gives it (tests/fuzz/src/import.rs).
"""

from pathlib import Path

import pyarrow
import pyarrow.feather
import pyarrow.parquet

FOLDER = Path(__file__).parent / "import"
COLUMNS = bytes([3])


def table(kind, rows=3, dim=4):
    vectors = [[(row * dim + place) / 8 - 0.5 for place in range(dim)] for row in range(rows)]
    tokens = pyarrow.array([f"w{row}" for row in range(rows)])
    return pyarrow.table({"token": tokens, "vector": pyarrow.array(vectors, kind)})


def keep(name, write, *args, **options):
    sink = pyarrow.BufferOutputStream()
    write(*args, sink, **options)
    (FOLDER / name).write_bytes(COLUMNS + sink.getvalue().to_pybytes())


def main():
    FOLDER.mkdir(exist_ok=True)
    floats = pyarrow.list_(pyarrow.float32())
    fixed = pyarrow.list_(pyarrow.float32(), 4)
    halves = pyarrow.list_(pyarrow.float16(), 4)
    parquet = pyarrow.parquet.write_table
    plain = {"store_schema": False, "write_statistics": False, "use_dictionary": False}
    keep("parquet-plain", parquet, table(floats), compression="NONE", **plain)
    keep("parquet-gzip", parquet, table(floats), compression="GZIP", **plain)
    keep("parquet-snappy-v2", parquet, table(floats), compression="SNAPPY", data_page_version="2.0")
    keep("parquet-lz4", parquet, table(fixed), compression="LZ4", **plain)
    keep("parquet-sums", parquet, table(fixed), write_page_checksum=True, **plain)
    keep("parquet-double", parquet, table(pyarrow.list_(pyarrow.float64())), **plain)
    split = {"vector.list.element": "BYTE_STREAM_SPLIT"}
    keep("parquet-split", parquet, table(floats), column_encoding=split, compression="NONE", **plain)
    feather = pyarrow.feather.write_feather
    keep("arrow", feather, table(fixed), compression="uncompressed")
    keep("arrow-lz4", feather, table(floats), compression="lz4")
    keep("arrow-half", feather, table(halves), compression="uncompressed")

    def stream(rows, sink):
        with pyarrow.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=2)

    keep("arrow-stream", stream, table(fixed))


main()
