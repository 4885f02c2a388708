"""What an encoder's folder may hold: weights that are no pickle, and no class of anybody's own."""

from pathlib import Path

from dr_irl.errors import ModelError
from dr_irl.json_text import parse_object


def require_plain_encoder(name: str, folder: Path) -> None:
    """Check the parts of an encoder that the library loads without being asked how.

    Raises:
        ModelError: a part's weights are a pickle, or a part names a function that is not torch's; the library would
            take another in its place, and the vectors would be others.
    """
    for pickled in sorted(folder.rglob("pytorch_model.bin")):
        if not pickled.with_name("model.safetensors").is_file():
            raise ModelError(
                f"encoder {name!r} keeps the weights of a part in {pickled.relative_to(folder)}, a pickle, which can "
                "run code when it is read; allowed are *.safetensors: load it once where you trust it, and save it anew"
            )
    for described in sorted(folder.rglob("config.json")):
        function = _activation(described)
        if function is not None and not function.startswith("torch."):
            raise ModelError(
                f"encoder {name!r} names the function {function!r} in {described.relative_to(folder)}; allowed are "
                "torch's own, such as torch.nn.modules.activation.Tanh: code that comes with a model is not run"
            )


def _activation(config: Path) -> str | None:
    try:
        found = parse_object(config.read_bytes()).get("activation_function")
    except (ValueError, OSError):  # what is damaged is told when it is loaded
        return None
    # In a transformer's own configuration the key names one of the library's functions: "gelu".
    return found if isinstance(found, str) and "." in found else None
