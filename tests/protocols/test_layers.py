"""Regions: their defaults beside docs/layers.md, and what a config may leave out."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from kff_live.protocols.channels import CHANNELS, COUNT, GROUPS, INDEX
from kff_live.protocols.layers import MODES, Blend, IdleRegions, LiveRegions, Regions

PAGE = (Path(__file__).parents[2] / "docs" / "layers.md").read_text(encoding="utf-8")
COLUMNS = {"[idle.regions]": IdleRegions, "[talk.regions]": Regions, "[capture.regions]": LiveRegions}


def rows() -> list[list[str]]:
    """The cells, without backticks, of the page's table of regions."""
    lines = PAGE.split("| region |")[1].split("\n\n")[0].splitlines()
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_page_has_every_region_with_its_defaults() -> None:
    heads = [cell.strip(" `") for cell in PAGE.split("| region |")[1].splitlines()[0].split("|")]
    assert heads[: len(COLUMNS)] == list(COLUMNS)
    assert [row[0] for row in rows()] == list(GROUPS) == list(Regions.__struct_fields__)
    for region, *cells in rows():
        for kind, cell in zip(COLUMNS.values(), cells, strict=False):
            blend: Blend = getattr(kind(), region)
            assert f"{blend.mode} {blend.weight:.1f}" == cell, (kind, region)


def test_the_page_has_every_channel_in_its_region() -> None:
    for region, *_, names in rows():
        begins = tuple(name.strip(" *") for name in names.replace("eye angles", "LeftEye, RightEye").split(","))
        assert [c.index for c in CHANNELS if c.name.startswith(begins)] == sorted(GROUPS[region])


def test_a_mix_has_each_weight_in_its_modes_row() -> None:
    mix = msgspec.convert({"jaw": {"weight": 0.25}, "head": {"mode": "max"}}, LiveRegions).mix()
    assert mix.shape == (len(MODES), COUNT)
    assert mix.dtype == np.float32
    assert mix[:, INDEX["JawOpen"]].tolist() == [0.0, 0.25, 0.0]
    assert mix[:, INDEX["HeadYaw"]].tolist() == [0.0, 1.0, 0.0]
    assert mix[:, INDEX["LeftEyeRoll"]].tolist() == [0.0, 0.0, 0.0]
    assert np.count_nonzero(mix, axis=0).max() == 1
    with pytest.raises(ValueError, match="read-only"):
        mix[0, 0] = 1.0


@pytest.mark.parametrize("kind", COLUMNS.values())
def test_a_region_given_in_part_keeps_its_layers_mode(kind: type[Regions]) -> None:
    for region in GROUPS:
        given: Regions = msgspec.convert({region: {"weight": 0.5}}, kind)
        assert getattr(given, region).mode == getattr(kind(), region).mode
        given = msgspec.convert({region: {"mode": "max"}}, kind)
        assert (getattr(given, region).mode, getattr(given, region).weight) == ("max", 1.0)
    assert msgspec.convert(msgspec.to_builtins(kind()), kind) == kind()
