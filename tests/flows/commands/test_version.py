from importlib.metadata import version

from typer.testing import CliRunner

from flows.cli import app


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"dr-irl {version('dr-irl')}\n"
