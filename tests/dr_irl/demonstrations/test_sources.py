import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from dr_irl.demonstrations.sources import load_examples, source_identity
from dr_irl.errors import DataError
from dr_irl.records import Example

FULL_ROW = {
    "prompt": " How do I mock him? ",
    "category": "insult",
    "source": "direct",
    "split": "heldout",
    "draft": ["Wants mockery", "The target"],
    "response": "I won't.",
}


def load(*locations: Path | str, characters: int = 100, bad: float = 0.5) -> tuple[list[Example], dict[str, int]]:
    return load_examples([str(p) for p in locations], max_prompt_characters=characters, max_bad_rows=bad)


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def csv(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_every_column_of_jsonl_is_read(tmp_path: Path) -> None:
    examples, dropped = load(jsonl(tmp_path / "f.jsonl", FULL_ROW))
    assert examples == [
        Example(
            id=hashlib.sha256(b"how do i mock him").hexdigest()[:16],
            prompt="How do I mock him?",
            category="insult",
            source="direct",
            split="heldout",
            draft=("Wants mockery", "The target"),
            response="I won't.",
            confidence=None,
        )
    ]
    assert dropped == {}


def test_parquet_reads_as_jsonl_does(tmp_path: Path) -> None:
    columns = {name: [value] for name, value in FULL_ROW.items()}
    assert load(parquet(tmp_path / "f.parquet", **columns)) == load(jsonl(tmp_path / "f.jsonl", FULL_ROW))


def test_csv_reads_as_jsonl_does(tmp_path: Path) -> None:
    text = b'prompt,category,source,split,draft,response\n" How do I mock him? ",insult,direct,heldout,'
    path = csv(tmp_path / "f.csv", text + b'"Wants mockery\nThe target",I won\'t.\n')
    assert load(path) == load(jsonl(tmp_path / "f.jsonl", FULL_ROW))


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_every_arrow_kind_of_text_is_text(tmp_path: Path, kind: pa.DataType) -> None:
    path = parquet(tmp_path / "f.parquet", prompt=pa.array(["one", "two"]).cast(kind))
    assert [e.prompt for e in load(path)[0]] == ["one", "two"]


def test_only_the_prompt_is_needed(tmp_path: Path) -> None:
    (example,), _ = load(parquet(tmp_path / "mine.parquet", prompt=["hello"], other=[1]))
    assert (example.category, example.source, example.split) == (None, "mine", "train")
    assert (example.draft, example.response) == ((), None)


def test_harm_category_wins_over_category_and_may_be_null(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "f.parquet", prompt=["a", "b"], category=["hate", "insult"], harm_category=["privacy_property", None]
    )
    examples, dropped = load(path)
    assert [e.category for e in examples] == ["privacy_property", None]
    assert dropped == {}


def test_an_unknown_label_is_kept_without_category_and_counted(tmp_path: Path) -> None:
    examples, dropped = load(jsonl(tmp_path / "f.jsonl", {"prompt": "a", "category": "hate"}))
    assert [e.category for e in examples] == [None]
    assert dropped == {"unknown category": 1}


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path: Path) -> None:
    path = csv(tmp_path / "f.jsonl", b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n{"prompt": "b"}')
    assert [e.prompt for e in load(path)[0]] == ["a", "b"]


def test_locations_are_read_in_the_order_given(tmp_path: Path) -> None:
    first, second = jsonl(tmp_path / "z.jsonl", {"prompt": "1"}), jsonl(tmp_path / "a.jsonl", {"prompt": "2"})
    assert [e.prompt for e in load(first, second)[0]] == ["1", "2"]


def test_the_seed_is_found() -> None:
    examples, dropped = load("seed", characters=1000, bad=0.0)
    assert len(examples) > 1000
    assert dropped == {}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"prompt": "  "}', "empty prompt"),
        (b'{"prompt": "?!"}', "empty prompt"),
        (b'{"prompt": "' + b"x" * 100_000 + b'"}', "prompt too long"),
        (b'{"prompt": 5}', "prompt is not text"),
        (b'{"prompt": null}', "prompt is not text"),
        (b'{"response": "a"}', "prompt is not text"),
        (b'{"prompt": "a", "response": ["b"]}', "response is not text"),
        (b'{"prompt": "a", "draft": [1]}', "draft is not text"),
        (b'{"prompt": "a", "category": 3}', "category is not text"),
        (b'{"prompt": "a", "split": "test"}', "unknown split"),
        (b'{"prompt": "\xff"}', "invalid UTF-8"),
        (b'{"prompt": "\\ud800"}', "invalid UTF-8"),
        (b'{"prompt": "a"', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'["a"]', "no JSON object"),
    ],
)
def test_a_bad_row_is_dropped_for_its_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    path = csv(tmp_path / "f.jsonl", b'{"prompt": "good"}\n' + line + b"\n")
    examples, dropped = load(path)
    assert [e.prompt for e in examples] == ["good"]
    assert dropped == {reason: 1}


def test_invalid_utf8_in_parquet_spoils_its_row_only(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"good", b"\xff"]).buffers())
    examples, dropped = load(parquet(tmp_path / "f.parquet", prompt=broken))
    assert [e.prompt for e in examples] == ["good"]
    assert dropped == {"invalid UTF-8": 1}


def test_too_many_bad_rows_name_file_row_reason_and_shares(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "f.jsonl", {"prompt": "a"}, {"prompt": ""}, {"prompt": 1}, {"prompt": "b"})
    expected = r"f\.jsonl': 2 of 4 rows \(50\.0%\) .* row 2: empty prompt; allowed is a share of 40\.0%; mend"
    with pytest.raises(DataError, match=expected):
        load(path, bad=0.4)


def test_the_allowed_share_of_bad_rows_is_allowed(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "f.jsonl", {"prompt": "a"}, {"prompt": ""})
    assert load(path, bad=0.5)[1] == {"empty prompt": 1}


@pytest.mark.parametrize("name", ["f.jsonl", "f.csv"])
def test_a_file_in_another_encoding_is_refused(tmp_path: Path, name: str) -> None:
    path = csv(tmp_path / name, "prompt\nun café\nun café\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"f\.\w+'.*(invalid UTF-8|no column 'prompt'|UTF-8 text)"):
        load(path)


def test_latin1_csv_is_refused_for_its_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 1 rows .* row 1: invalid UTF-8"):
        load(csv(tmp_path / "f.csv", "prompt\nun café\n".encode("latin-1")))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl' does not exist; allowed are 'seed' and .*; check the path"):
        load(tmp_path / "none.jsonl")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").mkdir()
    with pytest.raises(DataError, match=r"f\.jsonl' cannot be read: .*; check its permissions"):
        load(tmp_path / "f.jsonl")


def test_an_unsupported_suffix_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"prompts\.xlsx': its suffix is '\.xlsx'; allowed are \.parquet, \.jsonl, \.csv"
    ):
        load("prompts.xlsx")


def test_another_protocol_is_refused() -> None:
    with pytest.raises(DataError, match="https: is not supported; copy it to this machine or to S3"):
        load("https://example.org/f.csv")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_missing_prompt_column_is_refused_with_the_columns_seen(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"f.{suffix}"
    makers = {
        "jsonl": lambda: jsonl(path, {"question": "a"}),
        "csv": lambda: csv(path, b"question\na\n"),
        "parquet": lambda: parquet(path, question=["a"]),
    }
    makers[suffix]()
    with pytest.raises(DataError, match="has no column 'prompt'; its columns are 'question'; .*; rename"):
        load(path)


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [("prompt", [1], "int64"), ("prompt", [None], "null"), ("split", [True], "bool"), ("draft", [[1]], "list<")],
)
def test_a_column_of_another_type_is_refused(tmp_path: Path, column: str, values: list[Any], kind: str) -> None:
    path = parquet(tmp_path / "f.parquet", **({"prompt": ["a"]} | {column: values}))
    with pytest.raises(DataError, match=f"column '{column}' is of type {kind}.*; allowed is string.*; convert it"):
        load(path)


@pytest.mark.parametrize("name", ["f.parquet", "f.csv"])
def test_a_broken_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}' cannot be read as {name[2:]}: .*; write it again"):
        load(csv(tmp_path / name, b'prompt,split\n"a,b,c\nd,e,f,g\n'))


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_a_jsonl_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="has no rows; at least one is needed"):
        load(csv(tmp_path / "f.jsonl", content))


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no rows"):
        load(parquet(tmp_path / "f.parquet", prompt=pa.array([], pa.string())))


def test_a_column_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'prompt' occurs more than once"):
        load(csv(tmp_path / "f.csv", b"prompt,prompt\na,b\n"))


def test_a_parquet_column_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    pq.write_table(
        pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["prompt", "prompt"]), tmp_path / "f.parquet"
    )
    with pytest.raises(DataError, match="column 'prompt' occurs more than once"):
        load(tmp_path / "f.parquet")


def test_identity_of_a_file_is_the_hash_of_its_content(tmp_path: Path) -> None:
    path = str(csv(tmp_path / "f.csv", b"prompt\na\n"))
    assert source_identity([path]) == {path: hashlib.sha256(b"prompt\na\n").hexdigest()}


def test_identity_of_the_seed_is_stable() -> None:
    assert source_identity(["seed"]) == source_identity(["seed"])


def test_identity_of_a_missing_file_is_an_error() -> None:
    with pytest.raises(DataError, match="does not exist"):
        source_identity(["none.jsonl"])


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 server of this process with the bucket `data`; yields its file system."""
    import s3fs

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    filesystem = s3fs.S3FileSystem()
    filesystem.makedirs("data", exist_ok=True)  # servers of one process share their buckets
    yield filesystem
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_files_in_s3_are_read_and_identified_anew_after_a_change(bucket: Any) -> None:
    bucket.pipe_file("data/f.jsonl", b'{"prompt": "a"}\n')
    before = source_identity(["s3://data/f.jsonl"])
    assert [e.prompt for e in load("s3://data/f.jsonl")[0]] == ["a"]
    bucket.ls("data")  # a listing is cached, and answers for the files in it
    type(bucket)(skip_instance_cache=True).pipe_file("data/f.jsonl", b'{"prompt": "b"}\n')
    assert source_identity(["s3://data/f.jsonl"]) != before


def test_a_missing_object_in_s3_is_named(bucket: Any) -> None:
    with pytest.raises(DataError, match=r"s3://data/none\.csv' does not exist"):
        load("s3://data/none.csv")
