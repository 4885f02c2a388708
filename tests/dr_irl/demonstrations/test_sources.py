import hashlib
import json
import logging
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from dr_irl.demonstrations.sources import evaluation_prompts, load_examples, source_identity
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
    """Return the examples, and reason -> rows left out."""
    limits = {"max_prompt_characters": characters, "max_bad_rows": bad}
    examples, left_out = load_examples([str(p) for p in locations], **limits)
    return examples, dict(Counter(row.reason for row in left_out))


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


@pytest.mark.parametrize("label", ["hate", 3, True, ["insult"], {"insult": True}])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_label_of_another_data_set_is_kept_without_category_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, label: Any, suffix: str
) -> None:
    path = tmp_path / f"f.{suffix}"
    make = {
        "jsonl": lambda: jsonl(path, {"prompt": "a", "category": label}, {"prompt": "b", "category": None}),
        "parquet": lambda: parquet(path, prompt=["a", "b"], category=[label, None]),
    }
    with caplog.at_level(logging.WARNING):
        examples, dropped = load(make[suffix]())
    assert [e.category for e in examples] == [None, None]
    assert dropped == {}
    assert "1 of 2 rows have a category that is none of ours; the router gives them one" in caplog.text


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("Insult", "insult"),
        (" privacy-property ", "privacy_property"),
        ("Crimes & Illegal Activities", "crimes_illegal_activities"),
        ("crimes and illegal activities", "crimes_illegal_activities"),
        ("PHYSICAL HARM", "physical_harm"),
        ("Benign", "benign"),
        ("insults", None),
    ],
)
def test_a_label_spelt_in_another_way_is_the_label(tmp_path: Path, label: str, expected: str | None) -> None:
    examples, _ = load(jsonl(tmp_path / "f.jsonl", {"prompt": "a", "category": label}))
    assert [e.category for e in examples] == [expected]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        *((word, "train") for word in ("train", "Train", "training", "")),
        *((word, "heldout") for word in ("heldout", "Held-out", "test", "TEST", "validation", "val", "dev", "eval")),
    ],
)
def test_a_split_in_the_words_of_others_is_the_split(tmp_path: Path, word: str, expected: str) -> None:
    examples, _ = load(jsonl(tmp_path / "f.jsonl", {"prompt": "a", "split": word}))
    assert [e.split for e in examples] == [expected]


def test_every_row_is_an_example_or_left_out_with_file_number_and_reason(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "f.jsonl", {"prompt": "a"}, {"prompt": ""}, {"prompt": "b", "split": "third"})
    examples, left_out = load_examples([str(path)], max_prompt_characters=9, max_bad_rows=1.0)
    assert [(e.file, e.row) for e in examples] == [(str(path), 1)]
    assert [(row.file, row.row, row.stage) for row in left_out] == [
        (str(path), 2, "sources"),
        (str(path), 3, "sources"),
    ]
    assert [row.reason.partition(" (")[0] for row in left_out] == ["empty prompt", "unknown split"]
    assert "allowed: train, heldout, test, validation" in left_out[1].reason


def test_what_is_left_out_is_told_by_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = jsonl(tmp_path / "f.jsonl", {"prompt": "a"}, {"prompt": ""}, {"prompt": "?"}, {"prompt": 3})
    with caplog.at_level(logging.WARNING):
        load(path, bad=1.0)
    assert "3 of 4 rows are left out: 2 empty prompt, 1 prompt is not text" in caplog.text


@pytest.mark.parametrize(
    "columns", [{"chosen": "I won't.", "rejected": "Sure."}, {"response_0": "a", "response_1": "b"}]
)
def test_answers_that_are_not_read_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, columns: dict[str, str]
) -> None:
    with caplog.at_level(logging.WARNING):
        examples, _ = load(jsonl(tmp_path / "f.jsonl", {"prompt": "a"} | columns))
    assert [e.response for e in examples] == [None]
    assert f"no demonstration; answers are not read from '{next(iter(columns))}'" in caplog.text


ASKED, ANSWERED = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"messages": [ASKED, ANSWERED]}, ("hi", "hello")),
        ({"messages": [{"role": "system", "content": "Be kind."}, ASKED, ANSWERED]}, ("hi", "hello")),
        ({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}, ("hi", "hello")),
        ({"prompt": [ASKED], "response": "hello"}, ("hi", "hello")),
        ({"prompt": [ASKED]}, ("hi", None)),
        ({"prompt": "plain", "messages": [ASKED, ANSWERED]}, ("plain", None)),
    ],
)
def test_a_chat_of_one_question_is_read(
    tmp_path: Path, columns: dict[str, Any], expected: tuple[str, str | None], suffix: str
) -> None:
    path = tmp_path / f"f.{suffix}"
    make = {
        "jsonl": lambda: jsonl(path, columns),
        "parquet": lambda: parquet(path, **{name: [value] for name, value in columns.items()}),
    }
    (example,), _ = load(make[suffix]())
    assert (example.prompt, example.response) == expected


@pytest.mark.parametrize(
    "chat", [[ASKED, ANSWERED, ASKED], [ANSWERED], [], [{"role": "tool", "content": "x"}, ASKED], [ASKED, ASKED]]
)
def test_a_chat_of_more_than_a_question_is_left_out_with_its_reason(tmp_path: Path, chat: list[Any]) -> None:
    _, dropped = load(jsonl(tmp_path / "f.jsonl", {"messages": [ASKED]}, {"messages": chat}))
    assert dropped == {"a chat of more than a question and its answer": 1}


def test_of_an_evaluation_file_nothing_but_prompts_of_any_length_counts(tmp_path: Path) -> None:
    row = {"prompt": "x" * 5000, "split": "final", "response": 3, "category": [1]}
    path = str(jsonl(tmp_path / "f.jsonl", row))
    assert evaluation_prompts([path], max_bad_rows=0.0) == {path: ["x" * 5000]}


def test_bad_rows_of_an_evaluation_file_are_allowed_as_those_of_a_source_are(tmp_path: Path) -> None:
    path = str(jsonl(tmp_path / "f.jsonl", {"prompt": "a"}, {"prompt": ""}))
    assert evaluation_prompts([path], max_bad_rows=0.5) == {path: ["a"]}
    with pytest.raises(DataError, match=r"1 of 2 rows \(50.0%\) are unusable, .* or raise sources.max_bad_rows"):
        evaluation_prompts([path], max_bad_rows=0.4)


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
        (b'{"prompt": "a", "harm_category": 3}', "harm_category is not text"),
        (b'{"prompt": "a", "split": "final"}', "unknown split (allowed: train, heldout, test, validation, dev, eval)"),
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
    ("column", "value"),
    [
        ("prompt", 1),
        ("prompt", None),
        ("split", True),
        ("draft", [1]),
        ("response", {"a": 1}),
    ],
)
def test_a_value_of_another_type_is_refused_alike_in_every_format(tmp_path: Path, column: str, value: Any) -> None:
    row = {"prompt": "a"} | {column: value}
    for path in (
        parquet(tmp_path / "f.parquet", **{name: [each] for name, each in row.items()}),
        jsonl(tmp_path / "f.jsonl", row),
    ):
        with pytest.raises(DataError, match=f"1 of 1 rows .* row 1: {column} is not text"):
            load(path)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"f\.parquet' cannot be read as parquet: .*; write it again"):
        load(csv(tmp_path / "f.parquet", b"prompt,split\na,b\n"))


def test_one_ragged_row_spoils_no_other(tmp_path: Path) -> None:
    examples, dropped = load(csv(tmp_path / "f.csv", b"prompt,category\na,insult\nb,insult,more\nc\nd,benign\n"))
    assert [e.prompt for e in examples] == ["a", "d"]
    assert dropped == {"more or fewer fields than the header": 2}


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_the_separator_of_a_csv_is_found(tmp_path: Path, mark: str) -> None:
    text = f'category{mark} prompt \ninsult{mark}"mock, him{mark} please"\n'
    (example,), _ = load(csv(tmp_path / "f.csv", text.encode()))
    assert (example.prompt, example.category) == (f"mock, him{mark} please", "insult")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_white_space_around_the_name_of_a_column_does_not_count(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"f.{suffix}"
    make = {
        "csv": lambda: csv(path, b"prompt , category\nmock him, insult\n"),
        "jsonl": lambda: jsonl(path, {" prompt": "mock him", "category ": "insult"}),
        "parquet": lambda: parquet(path, **{" prompt": ["mock him"], "category ": ["insult"]}),
    }
    (example,), _ = load(make[suffix]())
    assert (example.prompt, example.category) == ("mock him", "insult")


def test_a_csv_that_was_cut_off_in_a_quoted_field_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it ends inside a quoted field: it was cut off, or a quote is missing"):
        load(csv(tmp_path / "f.csv", b'prompt,response\na,"I won\'t."\nb,"I will no'))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("f.jsonl.xz", "it is packed; unpack it first"),
        ("f.zip", "it is packed; unpack it first"),
        ("f.json", "write one JSON object per line"),
        ("f.xlsx", "save its sheet as CSV"),
        ("f.tsv", "rename it to .csv"),
        ("data", "name one file"),
    ],
)
def test_files_of_another_form_are_told_what_to_do(name: str, advice: str) -> None:
    with pytest.raises(DataError, match=rf"'{re.escape(name)}': its suffix is .*; {advice}"):
        load(name)


@pytest.mark.parametrize(("text", "rows"), [("x" * 2000, 1000), ("x" * 2_000_000, 1)])
def test_a_small_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, rows: int
) -> None:
    monkeypatch.setattr("dr_irl.tables.reading.MOST_BYTES", 1 << 20)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"prompt": column}), path, compression="zstd")
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match="unpacks to more than .* of text; allowed is less; split it"):
        load(path, characters=5000)


PEAK = """
import resource, sys
from dr_irl.demonstrations.sources import load_examples
from dr_irl.errors import DataError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_examples([sys.argv[1]], max_prompt_characters=100, max_bad_rows=0.5)
except DataError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_text_that_comes_up_often_is_not_repeated_before_it_is_counted(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), pa.array(["x" * 4_000_000]))
    path = tmp_path / "f.parquet"
    # As other programs write it: nothing in the file tells that it was a dictionary.
    pq.write_table(pa.table({"prompt": column}), path, compression="zstd", store_schema=False)
    # In a process of its own: the peak of this one may be anything.
    told = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    error, kilobytes = told.stdout.splitlines()
    assert "unpacks to more than 1 GiB of text" in error  # 1.6 GB
    assert int(kilobytes) < 300_000


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


PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


def packed(path: Path, content: bytes) -> Path:
    with pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), PACKED[path.suffix]) as stream:
        stream.write(content)
    return path


@pytest.mark.parametrize("codec", PACKED)
@pytest.mark.parametrize(("kind", "content"), [("jsonl", b'{"prompt": "a"}\n'), ("csv", b"prompt\na\n")])
def test_a_packed_file_reads_as_it_did_before(tmp_path: Path, codec: str, kind: str, content: bytes) -> None:
    (example,), _ = load(packed(tmp_path / f"mine.{kind}{codec}", content))
    assert (example.prompt, example.source) == ("a", "mine")


def test_a_packed_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "f.jsonl.gz", b'{"prompt": "a"}\n' * 100)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"f.jsonl.gz' cannot be unpacked: .*; write it again, whole"):
        load(path)


def test_a_packed_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dr_irl.tables.reading.MOST_BYTES", 1 << 20)
    with pytest.raises(DataError, match="unpacks to more than"):
        load(packed(tmp_path / "f.jsonl.gz", b" " * 5_000_000))


@pytest.mark.parametrize("location", ["", "/*.jsonl", "/**/*.jsonl*", "/part-?.*"])
def test_a_folder_or_pattern_stands_for_its_files_in_order(tmp_path: Path, location: str) -> None:
    jsonl(tmp_path / "part-2.jsonl", {"prompt": "two"})
    jsonl(tmp_path / "part-1.jsonl", {"prompt": "one"})
    for other in ("_SUCCESS", ".part-3.jsonl.crc", "readme.txt"):
        (tmp_path / other).write_text("no rows")
    assert [e.prompt for e in load(f"{tmp_path}{location}")[0]] == ["one", "two"]


def test_a_folder_named_as_a_file_is_read_as_spark_writes_it(tmp_path: Path) -> None:
    folder = tmp_path / "rows.parquet"
    folder.mkdir()
    parquet(folder / "part-00000.snappy.parquet", prompt=["a"])
    assert [e.prompt for e in load(folder)[0]] == ["a"]


@pytest.mark.parametrize("location", ["", "/*.csv"])
def test_a_place_without_files_that_can_be_read_is_told(tmp_path: Path, location: str) -> None:
    (tmp_path / "notes.txt").write_text("no rows")
    with pytest.raises(DataError, match="stands for no file that can be read; allowed are .parquet, .jsonl, .csv"):
        load(f"{tmp_path}{location}")


def test_a_file_more_in_a_folder_is_another_identity(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", {"prompt": "a"})
    before = source_identity([str(tmp_path)])
    jsonl(tmp_path / "b.jsonl", {"prompt": "b"})
    assert source_identity([str(tmp_path)]) != before


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


@pytest.mark.parametrize(
    "location", ["s3://data/set", "s3://data/set/", "s3://data/set/part-*.jsonl", "s3://data/set/*"]
)
def test_a_prefix_or_pattern_in_s3_stands_for_its_objects(bucket: Any, location: str) -> None:
    for name, prompt in {"part-2.jsonl": "two", "part-1.jsonl": "one", "_SUCCESS": ""}.items():
        bucket.pipe_file(f"data/set/{name}", json.dumps({"prompt": prompt}).encode())
    assert [e.prompt for e in load(location)[0]] == ["one", "two"]
    before = source_identity([location])
    bucket.pipe_file("data/set/part-3.jsonl", b'{"prompt": "three"}')
    after = source_identity([location])
    bucket.rm_file("data/set/part-3.jsonl")  # servers of one process share their buckets
    assert after != before


def test_a_key_with_marks_of_a_pattern_is_itself(bucket: Any) -> None:
    bucket.pipe_file("data/odd[1].jsonl", b'{"prompt": "a"}')
    assert [e.prompt for e in load("s3://data/odd[1].jsonl")[0]] == ["a"]


def test_a_missing_object_in_s3_is_named(bucket: Any) -> None:
    with pytest.raises(DataError, match=r"s3://data/none\.csv' does not exist"):
        load("s3://data/none.csv")
