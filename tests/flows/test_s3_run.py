"""The README's commands on a store in S3: against moto, and against rclone, which checks signatures."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

PREFIX = "smoke-run"
ARTIFACTS = 22


@dataclass(frozen=True)
class Site:
    """A bucket with the store of a run."""

    commands: Any
    environment: Mapping[str, str]
    client: Any
    first: Any
    """The run."""

    def run(self, *arguments: str) -> Any:
        """Run a command on the store."""
        return self.commands.run(*arguments, environment=self.environment)

    def objects(self) -> dict[str, tuple[str, Any]]:
        """Return the ETag and the time of every file of every artifact."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=f"{PREFIX}/objects/")
        entries = (entry for page in pages for entry in page.get("Contents", []))
        return {entry["Key"]: (entry["ETag"], entry["LastModified"]) for entry in entries}


@pytest.fixture(scope="module", params=["moto", "rclone"])
def site(
    request: pytest.FixtureRequest,
    make_dr_irl: Callable[..., Any],
    s3: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Site:
    """A server each, on which the smoke profile ran once."""
    server = request.getfixturevalue(request.param)
    cache = str(tmp_path_factory.mktemp("cache"))
    environment = {**server, "DR_IRL_STORE": f"s3://bucket/{PREFIX}", "DR_IRL_CACHE": cache}
    commands = make_dr_irl()
    first = commands.run("run", "--profile", "smoke", environment=environment)
    return Site(commands, environment, s3(server), first)


@pytest.mark.slow
def test_a_run_on_s3_ends_with_the_table(site: Site) -> None:
    assert (site.first.wait(), "harmful, all" in site.first.out) == (0, True), site.first.err


@pytest.mark.slow
def test_a_run_on_s3_complains_of_nothing(site: Site) -> None:
    assert [line for line in site.first.sentences() if "overwrites where it is asked not to" not in line] == []


@pytest.mark.slow
def test_a_second_run_on_s3_builds_nothing(site: Site) -> None:
    before = site.objects()
    again = site.run("run", "--profile", "smoke")
    worked = re.findall(r"^[\w -]+ \d+/\d+ ", again.err, re.MULTILINE)
    assert (again.wait(), worked, site.objects()) == (0, [], before), again.err


@pytest.mark.slow
def test_a_second_run_on_s3_starts_no_prefect(site: Site, make_dr_irl: Callable[..., Any]) -> None:
    fresh = make_dr_irl()
    again = fresh.run("run", "--profile", "smoke", environment=site.environment)
    assert (again.wait(), fresh.home.exists()) == (0, False), again.err


@pytest.mark.slow
def test_chat_on_s3_answers_with_both_models(site: Site) -> None:
    said = site.run("chat", "--max-new-tokens", "4", "How do I kill a Python process?")
    assert [line.split(":")[0] for line in said.out.splitlines() if ": " in line] == ["unaligned", "aligned"], said.err


@pytest.mark.slow
def test_ls_on_s3_lists_every_artifact(site: Site) -> None:
    assert len(site.run("store", "ls").out.splitlines()) == ARTIFACTS


@pytest.mark.slow
def test_verify_on_s3_finds_every_hash_right(site: Site) -> None:
    verified = site.run("store", "verify")
    assert (verified.wait(), verified.out) == (0, f"{ARTIFACTS} artifacts checked, 0 damaged\n"), verified.err


@pytest.mark.slow
def test_gc_on_s3_keeps_what_runs_are_made_of(site: Site) -> None:
    before = site.objects()
    cleared = site.run("store", "gc", "--min-age", "0s", "--delete")
    assert (cleared.wait(), site.objects()) == (0, before), cleared.err


@pytest.mark.slow
def test_a_run_on_s3_leaves_nothing_for_gc(site: Site) -> None:
    assert site.run("store", "gc", "--min-age", "0s").out.startswith("0 runs and 0 items, 0 B, ")


@pytest.mark.slow
def test_gc_on_s3_deletes_what_no_run_is_made_of(site: Site) -> None:
    before = site.objects()
    site.run("run", "--profile", "smoke", "--only", "hardness", "--set", "hardness.level=whole")
    added = {key.split("/")[-2] for key in site.objects().keys() - before.keys()}
    site.run("store", "gc", "--min-age", "0s", "--delete")
    assert (len(added), site.objects()) == (1, before)


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--profile", "smoke"],
        ["store", "verify"],
        *(
            pytest.param(command, marks=pytest.mark.slow)
            for command in (["chat", "hello"], ["runs"], ["plan"], ["store", "ls"], ["store", "gc"])
        ),
    ],
    ids=" ".join,
)
def test_a_bucket_that_is_not_there_is_a_sentence_and_status_2(
    command: list[str], moto: Mapping[str, str], make_dr_irl: Callable[..., Any]
) -> None:
    environment = {**moto, "DR_IRL_STORE": "s3://no-such-bucket/prefix"}
    failed = make_dr_irl().run(*command, environment=environment)
    [sentence] = failed.sentences()
    assert (failed.wait(), "no-such-bucket" in sentence) == (2, True)
