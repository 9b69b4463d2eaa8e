"""Sentences and vocabularies that a user writes: what they change, and each mistake as one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import topcoat.prompts
from topcoat.errors import UsageError
from topcoat.prompts.photo import sample_photo_prompts
from topcoat.prompts.templates import parse_template, read_templates
from topcoat.prompts.vocabulary import read_vocabulary

VOCABULARY = read_vocabulary()
SMALL: dict[str, Any] = {
    "attributes": {
        "presentation": ["woman", "man"],
        "age_band": ["20-29", "60-69"],
        "region": ["Poland", "Japan"],
        "hat": ["none", "beret", "cap"],
    },
    "given_names": {"woman": "female", "man": "male"},
    "locales": {"Poland": ["pl_PL"], "Japan": ["ja_JP"]},
    "implausible": [{"why": "caps are for the young", "age_band": "60-69", "hat": ["cap"]}],
}


def small(**changes: Any) -> dict[str, Any]:
    return {**SMALL, **changes}


def written(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def test_the_packaged_sentences_say_every_attribute() -> None:
    for template in read_templates(None, VOCABULARY):
        assert template.fields == {"name", "age", *VOCABULARY.attributes} - {"age_band"}


def test_articles_and_optional_parts() -> None:
    template = parse_template(
        "{{ age|a }}-year-old, {{ presentation|a }}{% if facial_hair %}, {{ facial_hair }}{% endif %}, {{ lens|a }}",
        VOCABULARY,
    )
    values = {"age": "18", "presentation": "androgynous person", "lens": "85mm lens"}
    assert template.render(values) == "an 18-year-old, an androgynous person, an 85mm lens"
    values = {"age": "35", "presentation": "man", "lens": "110mm lens", "facial_hair": "a beard"}
    assert template.render(values) == "a 35-year-old, a man, a beard, a 110mm lens"
    for age, article in (("8", "an"), ("11", "an"), ("80", "an"), ("19", "a"), ("180", "a"), ("1", "a")):
        assert template.render({**values, "age": age}).startswith(f"{article} {age}-")


def test_an_attribute_that_is_not_said_is_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(
        'templates = ["{{ presentation }}, {{ age }}, {{ eyes }} eyes", "{{ name }}, {{ age }}, {{ presentation }}"]'
    )
    prompts = sample_photo_prompts(40, 1, templates=read_templates(path, VOCABULARY))
    kinds = {tuple(prompt.attributes) for prompt in prompts}
    assert kinds == {("age", "presentation", "age_band", "eyes"), ("name", "age", "presentation", "age_band", "locale")}
    ids = {prompt.id for prompt in prompts}
    assert not ids & {prompt.id for prompt in sample_photo_prompts(40, 1)}
    assert sum("eyes" in prompt.attributes for prompt in prompts) == 20


def test_an_own_vocabulary_is_balanced_and_its_rules_hold(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(written(tmp_path / "v.yaml", small()))
    templates = (parse_template("{{ name }}, {{ age }}, {{ presentation }}, {{ region }}, {{ hat }}", vocabulary),)
    prompts = sample_photo_prompts(300, 0, vocabulary=vocabulary, templates=templates)
    assert not any(p.attributes["hat"] == "cap" and p.attributes["age_band"] == "60-69" for p in prompts)
    hats = [prompt.attributes["hat"] for prompt in prompts]
    assert [hats.count(hat) for hat in ("none", "beret", "cap")] == [100, 100, 100]
    assert {prompt.attributes["locale"] for prompt in prompts} == {"pl_PL", "ja_JP"}
    assert {p.attributes["presentation"] for p in prompts if p.attributes["name"].split()[0].endswith("o")} != {"woman"}


def test_the_packaged_sentences_need_the_packaged_attributes(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(written(tmp_path / "v.yaml", small()))
    with pytest.raises(UsageError, match=r"templates.toml template 1: the field \{\{ background \}\} is unknown"):
        read_templates(None, vocabulary)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ age }} {{ presentation }} {{ shoes }}", r"the field \{\{ shoes \}\} is unknown; use one of: name, age"),
        ("{{ age }} {{ presentation }} {{ }}", "it is no jinja2 template .*; write a field as {{ name }}"),
        ("{{ age }} {{ presentation }} {{ eyes.real }}", "it cannot be rendered .*no attribute 'real'"),
        ("{{ age }}", r"it does not say \{\{ presentation \}\} of every subject; add it"),
        ("{age} {presentation}", r"it does not say \{\{ age \}\} of every subject"),
        ("{{ presentation }} {% if facial_hair %}{{ age }}{% endif %}", r"it does not say \{\{ age \}\} of every"),
        ("{{ age }} {{ presentation }} {{ facial_hair }}", "not every subject has a facial_hair; write {% if facial_h"),
        ("{{ age }} {{ presentation }} {{ facial_hair|a }}", "not every subject has a facial_hair"),
        ("{{ age }} {{ presentation }} {{ locale }}", "not every subject has a locale; write {% if locale %}...{% end"),
        ("{{ age }} {{ presentation }} {{ eyes", "it is no jinja2 template"),
        ("{{ age }} {{ presentation }} {% if eyes %}", "it is no jinja2 template"),
        ("{{ age|an }} {{ presentation }}", "it is no jinja2 template .*'an'"),
        ("{{ age / 0 }} {{ presentation }}", "it cannot be rendered"),
        ("{{ age }} {{ presentation.__class__.mro() }}", "it cannot be rendered .*unsafe"),
        ("{{ age }} {{ presentation }}" + " word" * 400, "it has 402 words; at most 400"),
    ],
)
def test_a_wrong_template_is_one_sentence(tmp_path: Path, template: str, says: str) -> None:
    path = written(tmp_path / "t.yaml", {"templates": ["{{ age }} {{ presentation }}", template]})
    with pytest.raises(UsageError, match="t.yaml template 2: " + says) as caught:
        read_templates(path, VOCABULARY)
    assert "\n" not in str(caught.value)


def test_a_file_without_templates(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="templates is empty"):
        read_templates(written(tmp_path / "t.yaml", {"templates": []}), VOCABULARY)
    with pytest.raises(UsageError, match="tempaltes: unknown key, did you mean templates"):
        read_templates(written(tmp_path / "t.yaml", {"tempaltes": ["a"]}), VOCABULARY)
    with pytest.raises(UsageError, match="does not exist"):
        read_templates(tmp_path / "none.toml", VOCABULARY)


def attributes(**changes: Any) -> dict[str, Any]:
    return small(attributes={**SMALL["attributes"], **changes})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (small(attributes={"presentation": ["woman"]}), "attributes has no age_band; it needs presentation, age_band"),
        (attributes(Hat=["x"]), "the attribute name 'Hat' is not allowed; use small letters"),
        (attributes(split=["x"]), "the attribute name 'split' is taken; choose another"),
        (attributes(hat=[]), "the attribute hat has no words"),
        (attributes(hat=["cap", " "]), "the attribute hat has an empty word"),
        (attributes(hat=["cap", "cap"]), "the attribute hat has the word 'cap' twice"),
        (attributes(age_band=["old"]), "the age band 'old' is no range of years within 1-120; write one such as 18-29"),
        (attributes(age_band=["40-30"]), "the age band '40-30' is no range"),
        (attributes(region=["Poland", "Japan", "Mars"]), "locales has nothing for the region 'Mars'; add it"),
        (small(given_names={"woman": "female"}), "given_names has nothing for the presentation 'man'"),
        (small(given_names={"woman": "feminine", "man": "male"}), "given_names.woman: "),
        (small(locales={**SMALL["locales"], "Mars": ["pl_PL"]}), "locales: the attribute region has no word 'Mars'"),
        (small(locales={"Poland": ["pl_PO"], "Japan": ["ja_JP"]}), "Faker has no names for the locale 'pl_PO'"),
        (small(locales={"Poland": ["ru_RU"], "Japan": ["ja_JP"]}), "are not in the Latin script"),
        (small(phrases={"hat": {"fez": "a fez"}}), "phrases: the attribute hat has no word 'fez'; use one of: none"),
        (small(phrases={"shoe": {}}), "phrases: there is no attribute 'shoe'; use one of: presentation"),
        (small(only_for={"shoe": {"hat": "cap"}}), "only_for: there is no attribute 'shoe'"),
        (small(only_for={"region": {"hat": "cap"}}), "only_for: every subject has region"),
        (small(only_for={"hat": {}}), "only_for: hat needs one attribute and one word"),
        (small(only_for={"hat": {"presentation": "boy"}}), "only_for: the attribute presentation has no word 'boy'"),
        (small(only_for={"hat": {"hat": "cap"}}), "only_for: hat must come after hat"),
        (small(implausible=[{"why": "x", "hat": "cap"}]), "a rule needs why and the words of two attributes or more"),
        (small(implausible=[{"hat": "cap", "region": "Japan"}]), "a rule needs why"),
        (small(implausible=[{"why": "x", "hat": "fez", "region": "Japan"}]), r"implausible \(x\): the attribute hat"),
        (small(only_for={"hat": {"presentation": "man"}}), r"implausible \(caps .*\): hat is in only_for"),
        (small(colours=[]), "colours: unknown key"),
    ],
)
def test_a_wrong_vocabulary_is_one_sentence(tmp_path: Path, content: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match="v.yaml: .*" + says):
        read_vocabulary(written(tmp_path / "v.yaml", content))


def test_rules_that_leave_nothing_say_so(tmp_path: Path) -> None:
    nothing = [{"why": "no hats", "hat": ["none", "beret", "cap"], "presentation": ["woman", "man"]}]
    vocabulary = read_vocabulary(written(tmp_path / "v.yaml", small(implausible=nothing)))
    templates = (parse_template("{{ age }} {{ presentation }} {{ hat }}", vocabulary),)
    with pytest.raises(UsageError, match="prompt 0 of seed 0 has no possible hat: every word of it is implausible"):
        sample_photo_prompts(1, vocabulary=vocabulary, templates=templates)


def test_the_packaged_files_are_in_the_package() -> None:
    folder = Path(topcoat.prompts.__file__).parent
    assert {"photo.toml", "templates.toml"} <= {path.name for path in folder.iterdir()}
