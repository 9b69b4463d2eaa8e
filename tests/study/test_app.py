"""The server: what it sends is blind, what it takes is kept, and what is wrong is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from topcoat.study.app import AHEAD, create_app
from topcoat.study.plan import StudyPlan
from topcoat.study.store import read_raters

ANSWER = {"choice": "1", "dwell_seconds": 2.0, "width_px": 1280, "height_px": 800}
ARM_WORDS = ("distilled", "enhanced", "baseline", "degraded", "attention", "arm", "person-")


@pytest.fixture
def client(study: tuple[Path, StudyPlan]) -> Iterator[TestClient]:
    with TestClient(create_app(study[0], most_raters=3), follow_redirects=False) as opened:
        yield opened


def begin(client: TestClient) -> str:
    """Start as a rater; returns the path of their page."""
    answer = client.post("/start", data={"consent": "yes"})
    assert answer.status_code == 303
    path = answer.headers["location"]
    assert re.fullmatch(r"/r/[\w-]{22}", path)
    return path


def test_a_rater_votes_through_the_study(client: TestClient, study: tuple[Path, StudyPlan]) -> None:
    assert "No name" in client.get("/").text
    page = begin(client)
    state = client.get(f"{page}/state").json()
    assert (state["answered"], state["total"], len(state["upcoming"])) == (0, 8, AHEAD)
    for position in range(8):
        assert 'id="vote"' in client.get(page).text
        state = client.post(f"{page}/vote", json={"position": position, **ANSWER}).json()
        assert state["answered"] == position + 1
        raters, _ = read_raters(*study)  # from the file: what was acknowledged is there
        assert len(raters[0].votes) == position + 1
    assert state["upcoming"] == []
    assert "Thank you" in client.get(page).text


def test_nothing_that_is_sent_tells_which_arm_it_is(client: TestClient, study: tuple[Path, StudyPlan]) -> None:
    folder, plan = study
    page = begin(client)
    raters, _ = read_raters(folder, plan)
    headers, sent = set(), [client.get("/").text, client.get(page).text, client.get(f"{page}/own").text]
    for position, trial in enumerate(raters[0].trials):
        sizes = set()
        for place in "12":
            answer = client.get(f"{page}/{position}/{place}")
            assert answer.content.startswith(b"RIFF")
            expected = (folder / "images" / plan.subjects[trial.subject].files[trial.arms[int(place) - 1]]).read_bytes()
            assert answer.content == expected
            own = dict(answer.headers)
            sizes.add(own.pop("content-length"))
            headers.add(tuple(sorted(own.items())))
        assert len(sizes) == 1
        sent.append(client.get(f"{page}/state").text)
        sent.append(client.post(f"{page}/vote", json={"position": position, **ANSWER}).text)
    assert len(headers) == 1  # neither date, tag nor name differs
    assert not {"last-modified", "etag", "content-disposition"} & dict(next(iter(headers))).keys()
    sent += [client.get(page).text, client.get(f"{page}/data").text]
    names = [name for subject in plan.subjects for name in subject.files.values()]
    for text in sent:
        assert not [word for word in (*ARM_WORDS, *names) if re.search(rf"\b{re.escape(word)}", text, re.IGNORECASE)]


def test_pictures_are_given_out_a_little_ahead_and_not_all_at_once(client: TestClient) -> None:
    page = begin(client)
    found = [client.get(f"{page}/{position}/1").status_code for position in range(8)]
    assert found == [200] * AHEAD + [404] * (8 - AHEAD)
    assert client.get(f"{page}/0/3").status_code == 422
    assert client.get(f"{page}/-1/1").status_code == 404
    assert client.get("/r/nobody/0/1").status_code == 404


def test_no_page_asks_for_anything_from_elsewhere(client: TestClient) -> None:
    page = begin(client)
    for path in ("/", page, f"{page}/own", "/deleted", "/nowhere"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "http" not in policy
        assert answer.headers["referrer-policy"] == "no-referrer"
        outside = re.findall(r'(?:src|href|action)="(?!/)[^"]*', answer.text)
        assert outside == []
        for asset in re.findall(r'(?:src|href)="(/assets/[^"]*)', answer.text):
            found = client.get(asset)
            assert found.status_code == 200 and "http" not in found.text.replace("http://www.w3.org/2000/svg", "")
    assert client.get("/study.json").status_code == client.get("/assets/layout.html.j2").status_code == 404
    assert client.get("/docs").status_code == client.get("/openapi.json").status_code == 404


def test_nobody_begins_without_consent(client: TestClient, study: tuple[Path, StudyPlan]) -> None:
    for data in ({}, {"consent": "no"}):
        assert client.post("/start", data=data).headers["location"] == "/"
    assert client.get("/start").status_code == 405
    assert read_raters(*study)[0] == []


def test_large_bodies_are_not_read(client: TestClient, study: tuple[Path, StudyPlan]) -> None:
    assert client.post("/start", content=b"consent=yes&" + b"x" * 100_000).status_code == 413
    assert client.post("/start", content=iter([b"consent=yes"])).status_code == 413  # its length is not said
    assert read_raters(*study)[0] == []


def test_the_first_page_knows_who_has_begun_and_a_second_rater_is_noticed(
    client: TestClient, study: tuple[Path, StudyPlan]
) -> None:
    page = begin(client)
    assert "You have begun already: 0 of 8" in client.get("/").text and f'href="{page}"' in client.get("/").text
    begin(client)
    client.cookies.clear()
    begin(client)
    first, second, third = read_raters(*study)[0]
    assert first.browser == second.browser != third.browser
    assert first.network == second.network == third.network
    assert "all the raters that it takes" in client.get("/").text
    assert client.post("/start", data={"consent": "yes"}).headers["location"] == "/"


def test_a_link_resumes_where_it_stopped_in_another_browser(client: TestClient) -> None:
    page = begin(client)
    client.post(f"{page}/vote", json={"position": 0, **ANSWER})
    client.cookies.clear()
    assert client.get(f"{page}/state").json()["upcoming"][0]["position"] == 1
    assert f'value="http://testserver{page}"' in client.get(page).text


def test_an_answer_that_is_sent_twice_counts_once(client: TestClient, study: tuple[Path, StudyPlan]) -> None:
    page = begin(client)
    for choice in "12":
        answer = client.post(f"{page}/vote", json={"position": 0, **ANSWER, "choice": choice})
        assert answer.status_code == 200 and answer.json()["answered"] == 1
    assert [vote.choice for vote in read_raters(*study)[0][0].votes] == ["1"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"position": 5}, 409),
        ({"position": -1}, 422),
        ({"choice": "3"}, 422),
        ({"choice": 1}, 422),
        ({"dwell_seconds": -1}, 422),
        ({"dwell_seconds": "NaN"}, 422),
        ({"extra": 1}, 422),
        ({"width_px": 10**9}, 422),
    ],
    ids=str,
)
def test_bad_answers_are_one_sentence(client: TestClient, change: dict[str, object], status: int) -> None:
    page = begin(client)
    answer = client.post(f"{page}/vote", json={"position": 0, **ANSWER, **change})
    assert answer.status_code == status and set(answer.json()) == {"error"}
    assert client.get(f"{page}/state").json()["answered"] == 0


def test_bodies_that_are_no_json_are_refused(client: TestClient) -> None:
    page = begin(client)
    assert client.post(f"{page}/vote", content=b"\xff{").status_code == 422
    assert client.post("/r/nobody/vote", json={"position": 0, **ANSWER}).status_code == 404


def test_a_rater_can_take_along_and_delete_what_is_stored(client: TestClient, study: tuple[Path, StudyPlan]) -> None:
    page = begin(client)
    client.post(f"{page}/vote", json={"position": 0, **ANSWER})
    own = client.get(f"{page}/data")
    assert "attachment" in own.headers["content-disposition"]
    record = own.json()
    assert record["rater"] == 1 and record["votes"][0]["choice"] == "1"
    assert record["votes"][0]["dwell_seconds"] == 2.0 and set(record) >= {"started", "browser", "network"}
    assert client.post(f"{page}/delete").headers["location"] == "/deleted"
    assert read_raters(*study) == ([], 1)
    assert client.get(page).status_code == client.get(f"{page}/data").status_code == 404
    assert "You have begun" not in client.get("/").text


def test_words_of_the_study_are_text_and_not_markup(arms: dict, tmp_path: Path) -> None:
    from tests.study.conftest import SETTINGS
    from topcoat.study.create import create_study, match_pictures, plan_study

    words = {"title": "<b>T</b>", "question": "<i>Q</i>?", "consent": "One <u>thing</u>.\n\nAnother."}
    sources = match_pictures(arms)
    create_study(tmp_path / "own", sources, plan_study(sources, SETTINGS.model_copy(update=words)))
    with TestClient(create_app(tmp_path / "own"), follow_redirects=False) as client:
        text = client.get("/").text
        assert "<p>One &lt;u&gt;thing&lt;/u&gt;.</p>" in text and "<p>Another.</p>" in text
        assert "&lt;b&gt;T&lt;/b&gt;" in text and "<b>" not in text
        assert "&lt;i&gt;Q&lt;/i&gt;?" in client.get(begin(client)).text
