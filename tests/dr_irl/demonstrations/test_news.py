from collections.abc import Callable

from dr_irl.demonstrations.news import News, count_news
from dr_irl.records import Example

MakeExample = Callable[..., Example]


def test_every_new_row_is_in_one_count(make_example: MakeExample) -> None:
    old = make_example("old")
    fresh, unclear, spoilt, near = (make_example(name) for name in ("fresh", "unclear", "spoilt", "near"))
    new = [old, fresh, fresh, unclear, spoilt, near]
    distinct = [old, fresh, unclear]
    news = count_news(
        new, [old], unspoilt=[row for row in new if row is not spoilt], distinct=distinct, routed=[old, fresh]
    )
    # Repeated: the old one, the second fresh one and the near one.
    assert (news.repeated, news.overlapping, news.abstained, news.kept) == (3, 1, 1, 1)


def test_rows_kept_are_counted_by_the_category_they_got(make_example: MakeExample) -> None:
    new = [make_example("a", category=None), make_example("b")]
    routed = [make_example("a", category="mental_health", confidence=0.9), new[1]]
    news = count_news(new, [], unspoilt=new, distinct=new, routed=routed)
    assert (news.by_category, news.routed) == ({"mental_health": 1, "insult": 1}, 1)


def test_a_new_row_that_replaces_an_old_one_is_kept(make_example: MakeExample) -> None:
    old, better = make_example("a", response=None), make_example("a")
    news = count_news([better], [old], unspoilt=[better], distinct=[better], routed=[better])
    assert (news.kept, news.repeated) == (1, 0)


def test_a_row_without_a_demonstration_is_usable_where_one_is_generated(make_example: MakeExample) -> None:
    new = [make_example("a", response=None), make_example("b")]
    news = count_news(new, [], unspoilt=new, distinct=new, routed=new)
    assert (news.usable(generated=False), news.usable(generated=True)) == (1, 2)


def test_a_heldout_row_needs_no_demonstration(make_example: MakeExample) -> None:
    new = [make_example("a", response=None, split="heldout")]
    assert count_news(new, [], unspoilt=new, distinct=new, routed=new).usable(generated=False) == 1


def test_news_are_told_in_counts() -> None:
    news = News(3, 1, 2, 4, {"insult": 3, "benign": 1}, routed=2, undemonstrated=1)
    assert str(news) == (
        "10 rows: 3 like others, 1 in an evaluation set, 2 of no clear category, 4 kept "
        "(benign 1, insult 3; 2 by the router), 1 of them without a demonstration"
    )
