"""Which number format is fastest, by what the kernel says of the processor."""

from pathlib import Path

import pytest

from dr_irl.language.number_format import fastest_number_format


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16 amx_tile", "bfloat16"),
        ("GenuineIntel", "avx512f avx512_bf16", "float32"),  # there, and slower
        ("AuthenticAMD", "avx512f avx512_bf16", "bfloat16"),
        ("AuthenticAMD", "avx2", "float32"),
        ("GenuineIntel", "avx2 amx_bf16_not", "float32"),  # a whole word
    ],
)
def test_processor_decides(tmp_path: Path, vendor: str, flags: str, expected: str) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\nbugs\t\t: none\n")
    assert fastest_number_format("cpu", told) == expected


def test_unknown_processor_gets_what_every_one_can(tmp_path: Path) -> None:
    assert fastest_number_format("cpu", tmp_path / "none") == "float32"


def test_gpu_has_bfloat16(tmp_path: Path) -> None:
    assert fastest_number_format("cuda:1", tmp_path / "none") == "bfloat16"
