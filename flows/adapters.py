"""Finds the adapter that `evaluate` is to measure, or says at once that there is none; it imports nothing heavy."""

import re

from dr_irl.artifacts import Store
from dr_irl.artifacts.address import S3Address, parse_address
from dr_irl.errors import ModelError
from dr_irl.language.resolve import model_identity
from dr_irl.promotion.published import is_version
from dr_irl.promotion.registry import Registry
from dr_irl.promotion.servable import CONFIG_FILE, WEIGHTS_FILE

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_MOST_NAMES = 10


def find_adapter(model: str, store: str) -> str:
    """Return where the adapter of a model is: of a registered one its address in the store, else what was given.

    Args:
        model: `NAME` or `NAME/VERSION` of the registry; or an adapter: a folder, `s3://bucket/prefix` or a hub id.
        store: whose registry it is; nothing is written there.

    Raises:
        UserError: the registry has the model, but no champion or no such version of it.
        ModelError: nothing of that name can be found, or the folder holds no adapter.
    """
    parse_address(model, "model", ModelError)
    opened = Store(store, read_only=True)
    if adapter := Registry(opened).adapter_uri(model):
        return adapter
    folder = parse_address(model, "model", ModelError)
    if isinstance(folder, S3Address):  # looked at when it is read: nothing of it is here
        return folder.uri
    if folder.is_dir():
        if absent := [file for file in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / file).is_file()]:
            raise ModelError(f"folder {model!r} holds no {' and no '.join(absent)}; name an adapter as PEFT saves it")
        return model
    missing = f"no model {model!r} in the registry of store {opened.uri!r} ({_names(opened)}); and it is"
    if model.startswith((".", "~")) or is_version(folder.name) or not _HUB_ID.fullmatch(model):
        raise ModelError(f"{missing} no adapter folder, s3:// address or hub id (those are OWNER/NAME)")
    try:
        model_identity(model)
    except ModelError as error:
        reason = str(error.__cause__).strip().splitlines()[0]
        raise ModelError(f"{missing} no adapter folder, s3:// address or reachable hub id ({reason})") from error
    return model


def _names(store: Store) -> str:
    names = Registry(store).names()
    if not names:
        return "which is empty; dr-irl models lists what dr-irl promote has published"
    more = f" and {len(names) - _MOST_NAMES} more, which dr-irl models lists" if len(names) > _MOST_NAMES else ""
    return f"it has: {', '.join(names[:_MOST_NAMES])}{more}"
