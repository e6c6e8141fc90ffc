"""Settings: what is written down is read again as it was, and every one is explained."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as unhurried
from hypothesis import strategies as st

from command import done
from conveyor.errors import BadInput
from conveyor.language.settings import Settings
from conveyor.training.settings import flag, read_toml


def values(default: Any, bounds: dict[str, Any]) -> st.SearchStrategy[Any]:
    """All that a setting of this default and these bounds can be."""
    low = bounds["low"] if bounds["above"] is None else bounds["above"]
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, int):
        return st.integers(low, bounds["high"] or 2**63 - 1)
    if isinstance(default, float):
        above = bounds["above"] is not None
        return st.floats(low, bounds["high"], exclude_min=above, allow_nan=False, allow_infinity=False)
    if isinstance(default, tuple):
        return st.lists(st.text()).map(tuple)
    return st.sampled_from(bounds["choices"]) if bounds["choices"] else st.text()


ANY = st.builds(Settings, **{setting.name: values(setting.default, setting.metadata) for setting in fields(Settings)})


@unhurried(deadline=None)
@given(settings=ANY)
def test_toml_gives_the_settings_again(settings: Settings) -> None:
    assert Settings.of(tomllib.loads(settings.to_toml())) == settings
    assert Settings.of(settings.to_dict()) == settings


def test_a_file_gives_the_settings_again(tmp_path: Path) -> None:
    strange = Settings(text=('a "b"\\', "\r\n\t\x00\x7f\x85\u2028", "é🙂", "# no comment"), cell="'''", lr=5e-324)
    path = tmp_path / "settings.toml"
    path.write_bytes(strange.to_toml().encode())
    assert Settings.read(path) == strange


def test_a_whole_number_does_for_a_number_and_nothing_else_for_another() -> None:
    assert Settings.of({"lr": 1, "steps": 5}) == Settings(lr=1.0, steps=5)
    for wrong in ({"steps": 5.0}, {"steps": True}, {"lr": "1"}, {"tie": 1}, {"cell": 3}, {"text": "a"}, {"text": [1]}):
        with pytest.raises(BadInput, match=f"{next(iter(wrong))} must be"):
            Settings.of(wrong)


def test_the_defaults_are_valid_and_an_empty_file_gives_them(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").touch()
    assert Settings.of(read_toml(tmp_path / "empty.toml")) == Settings()


def test_every_setting_has_a_flag_with_its_meaning_in_the_help(tmp_path: Path) -> None:
    shown = " ".join(done("train", "--help", cwd=tmp_path).stdout.split())
    for setting in fields(Settings):
        assert setting.metadata["meaning"]
        assert setting.metadata["meaning"] in shown, setting.name
        assert re.search(rf"(?<!\S){re.escape(flag(setting.name))}\b", shown) or setting.name == "text"
    assert "[TEXT]..." in shown
