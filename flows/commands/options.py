"""Options that several commands have."""

from typing import Annotated

import typer

StoreOption = Annotated[
    str, typer.Option("--store", envvar="DR_IRL_STORE", help="Folder or s3://bucket/prefix for artifacts.")
]
Profile = Annotated[
    str, typer.Option(help="smoke (seconds), demo (minutes), laptop (half an hour), paper (GPU), or a YAML file.")
]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", help="SECTION.NAME=VALUE, any setting; may be repeated.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and Prefect's log.")]
