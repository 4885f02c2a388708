import itertools
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.demonstrations.dedupe import cluster, drop_duplicates, drop_overlaps, normalise, similarity
from dr_irl.records import Example

Make = Callable[..., Example]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hello \n\t WORLD  ", "hello world"),
        ("¿¡“What's up?!”", "what's up"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("Straße", "strasse"),
        ("\u01f0", "\u01f0"),  # folding case splits the letter in two; it is put together again
        ("你好，世界。", "你好,世界"),
        ("?!…", ""),
        ("a - b", "a - b"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(text=st.text(st.characters(codec="latin-1"), max_size=30))
def test_normalise_is_idempotent(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_similarity_by_hand() -> None:
    # abc bcd cde / abc bcd cdx: 2 shared of 4
    assert similarity("a b c d e", "A b, c d x!") == 0.5


def test_similarity_of_chinese_counts_characters() -> None:
    # 如何制 何制作 制作饼 / 如何制 何制作 制作汤: 2 shared of 4
    assert similarity("如何制作饼", "如何制作汤") == 0.5


def test_exact_duplicates_are_dropped_and_counted(make_example: Make) -> None:
    examples = [make_example("Mock him!"), make_example("mock  him"), make_example("mock her")]
    kept, dropped = drop_duplicates(examples, near_duplicate=1.0)
    assert kept == [examples[0], examples[2]]
    assert dropped == [(examples[1], "exact duplicate")]


def test_near_duplicates_are_dropped_from_the_threshold_on(make_example: Make) -> None:
    pair = [make_example("a b c d e"), make_example("a b c d x")]
    assert drop_duplicates(pair, near_duplicate=0.5) == (pair[:1], [(pair[1], "near duplicate")])
    assert drop_duplicates(pair, near_duplicate=0.51)[0] == pair


@pytest.mark.parametrize(
    ("safe", "kept"),
    [
        ({"category": "benign"}, 2),
        ({"category": "physical_harm"}, 1),  # both are to be refused
        ({"category": None}, 1),  # may turn out to be either
        ({"category": "benign", "split": "heldout"}, 1),  # training must not come near what it is measured on
    ],
)
def test_a_prompt_to_refuse_and_its_harmless_twin_both_stay(make_example: Make, safe: dict, kept: int) -> None:
    twins = [make_example("how to kill a person"), make_example("how to kill a python process", **safe)]
    assert len(drop_duplicates(twins, near_duplicate=0.3)[0]) == kept


def test_equal_prompts_of_both_kinds_contradict_each_other_and_one_goes(make_example: Make) -> None:
    twins = [make_example("how to kill it"), make_example("How to kill it?", category="benign")]
    assert drop_duplicates(twins, near_duplicate=0.9) == (twins[:1], [(twins[1], "exact duplicate")])


def test_prompts_of_symbols_only_are_told_apart(make_example: Make) -> None:
    pair = [make_example("😀"), make_example("💣")]
    assert drop_duplicates(pair, near_duplicate=0.5)[0] == pair


@pytest.mark.parametrize("second", ["a b c d e", "a b c d x"])
@pytest.mark.parametrize(
    ("loser", "winner"),
    [
        ({}, {"split": "heldout", "response": None, "category": None}),
        ({"response": None}, {"category": None}),
        ({"category": None}, {}),
    ],
)
def test_which_of_two_duplicates_stays(make_example: Make, second: str, loser: dict, winner: dict) -> None:
    examples = [make_example("a b c d e", **loser), make_example(second, **winner)]
    assert drop_duplicates(examples, near_duplicate=0.5)[0] == examples[1:]


words = st.lists(st.sampled_from("abcde"), min_size=1, max_size=8).map(" ".join)


@given(
    texts=st.lists(st.tuples(words, st.sampled_from(["train", "heldout"])), max_size=14),
    threshold=st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9, 1.0]),
)
def test_the_index_finds_what_comparing_all_pairs_finds(texts: list[tuple[str, str]], threshold: float) -> None:
    examples = [Example(t, t, "insult", "s", split, (), None, None) for t, split in texts]
    expected: list[Example] = []
    for example in sorted(examples, key=lambda e: e.split != "heldout"):
        if all(similarity(example.prompt, other.prompt) < threshold - 1e-9 for other in expected):
            expected.append(example)
    kept, dropped = drop_duplicates(examples, near_duplicate=threshold)
    assert sorted(kept, key=lambda e: e.split != "heldout") == expected
    assert Counter([*kept, *(example for example, _ in dropped)]) == Counter(examples)  # none is lost, none twice


def test_ten_thousand_rows_take_seconds(make_example: Make) -> None:
    generator = np.random.default_rng(0)
    # Every prompt opens alike: the worst case of an index over all shingles.
    tails = generator.integers(0, 500, size=(10_000, 6))
    examples = [make_example("how do i quickly and safely make " + " ".join(map(str, tail))) for tail in tails]
    start = time.monotonic()
    drop_duplicates(examples, near_duplicate=0.7)
    assert time.monotonic() - start < 15


def test_shared_run_of_words_with_an_evaluation_prompt_drops_a_training_row(make_example: Make) -> None:
    spoilt, clean = make_example("please: a b c d now"), make_example("a b c x d")
    kept, dropped = drop_overlaps([spoilt, clean], {"xstest": ["A, b c d?"], "other": []}, ngram=4)
    assert kept == [clean]
    assert dropped == [(spoilt, "overlaps xstest")]


def test_short_prompts_overlap_only_equal_ones(make_example: Make) -> None:
    equal, longer = make_example("Kill process!"), make_example("kill process now")
    kept, _ = drop_overlaps([equal, longer], {"xstest": ["kill process"]}, ngram=8)
    assert kept == [longer]


def test_a_row_in_two_sets_counts_for_the_first(make_example: Make) -> None:
    _, dropped = drop_overlaps([make_example("a b c")], {"z": ["a b"], "a": ["b c"]}, ngram=2)
    assert [reason for _, reason in dropped] == ["overlaps z"]


def test_clusters_are_joined_by_what_two_have_in_common_with_a_third() -> None:
    # a-b and b-c are alike, a-c are not: 2 shared 3-grams of 4, and 1 of 5
    prompts = ["one two three four five", "x y z", "two three four five six", "three four five six seven"]
    assert similarity(prompts[0], prompts[3]) < 0.5 <= similarity(prompts[0], prompts[2])
    assert cluster(prompts, 0.5) == [[0, 2, 3], [1]]


@given(st.lists(st.text("abc ", max_size=12), max_size=12), st.sampled_from([0.3, 0.5, 1.0]))
def test_no_two_clusters_hold_prompts_that_are_alike(prompts: list[str], threshold: float) -> None:
    groups = cluster(prompts, threshold)
    assert sorted(position for group in groups for position in group) == list(range(len(prompts)))
    for one, other in itertools.combinations(groups, 2):
        assert all(similarity(prompts[i], prompts[j]) < threshold for i in one for j in other)


def test_heldout_rows_may_overlap_evaluation_sets(make_example: Make) -> None:
    row = make_example("a b", split="heldout")
    assert drop_overlaps([row], {"set": ["a b"]}, ngram=2) == ([row], [])
