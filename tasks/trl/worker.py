"""One of several processes that train with TRL: `python -m tasks.trl.worker JOB.json`, by a launcher."""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from dr_irl.errors import DrIrlError
from tasks.trl.job import ERROR_FILES, PROGRESS, TrlJob


def report(readings: dict[str, float]) -> None:
    """Tell the process that started the launcher how far training is."""
    print(PROGRESS + json.dumps(readings), flush=True)


def main(path: Path) -> None:
    """Take part in the job; what a failure says is left beside it, for launchers tell only that there was one."""
    try:
        from tasks.trl.training import train  # may fail, and shall be heard

        train(TrlJob.model_validate_json(path.read_text()), report)
    except Exception as error:
        said = str(error) if isinstance(error, DrIrlError) else traceback.format_exc()
        path.with_name(ERROR_FILES.replace("*", os.environ.get("RANK", "0"))).write_text(said)
        raise


def end_at_once() -> NoReturn:
    """End this process, whose work is done, without the tear-down of C++: gloo's threads now and then abort there."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    end_at_once()
