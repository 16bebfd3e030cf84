"""Reading: every refusal names the place; nothing is executed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharos.facts.names import fold, resolve
from pharos.facts.reading import parse_yaml, read_yaml
from pharos.quantity.errors import InputError, PharosError, UnknownName


def test_places_and_yaml_1_2():
    document = parse_yaml("a: 1e9\non: yes\nb:\n  c: [1, 2]\n", "f.yaml")
    assert document.data == {"a": 1e9, "on": "yes", "b": {"c": [1, 2]}}
    assert document.where("b", "c") == "f.yaml:4:3 b.c"
    assert document.where("b", "missing") == "f.yaml:3:1 b.missing"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2\n", "f.yaml:2:1: 'a' is written twice"),
        ("a: [1, 2\n", "f.yaml:2"),
        ("a: &x 1\nb: *x\n", "anchor"),
        ("a: !!python/object/apply:os.system [ls]\n", "tag"),
        ("", "is empty"),
        ("? [1, 2]\n: 3\n", "cannot be a key"),
        ("[" * 100 + "]" * 100, "nest"),
    ],
)
def test_refusals(text, told):
    with pytest.raises(InputError, match="f.yaml") as caught:
        parse_yaml(text, "f.yaml")
    assert told in str(caught.value)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text):
    try:
        parse_yaml(text, "f.yaml")
    except PharosError:
        pass


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_yaml(tmp_path / "missing.yaml")
    with pytest.raises(InputError, match="folder"):
        read_yaml(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_yaml(tmp_path / "binary.yaml")


def test_names_match_loosely():
    known = {"nvidia_a100_sxm_80gb": ("a100",), "nvidia_a100_sxm_40gb": (), "gpt2-xl": ()}
    assert resolve("machine", "A100-SXM-80GB", known) == "nvidia_a100_sxm_80gb"
    assert resolve("model", "GPT2_XL", known) == "gpt2-xl"
    assert fold("nvidia_h100-SXM.5") == "h100sxm5"
    with pytest.raises(UnknownName, match="ambiguous.*40gb.*80gb"):
        resolve("machine", "a100-sxm", known)
    with pytest.raises(UnknownName, match="did you mean gpt2-xl"):
        resolve("model", "gpt2-xk", known)
