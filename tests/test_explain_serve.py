"""`conveyor explain --serve`: what it answers, to whom, and how it ends."""

import http.client
import json
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from selenium.webdriver.common.by import By

from command import begun, called, command
from conveyor.errors import BadInput
from conveyor.explain.measure.record import record
from conveyor.explain.measure.similar import find_similar, pattern
from conveyor.explain.page.corpus import Corpus, rounded
from conveyor.explain.page.serve import listen, serve
from conveyor.language.job import Language
from conveyor.language.settings import Settings
from conveyor.language.trained import load
from conveyor.training import train as training
from conveyor.training.progress import Progress
from tiers import slow

pytestmark = pytest.mark.xdist_group("explain serve")

LEARNT = "the cats that the dog sees sleep. the dog that the cats see sleeps.\n" * 120
TEXT = "the dog sees "
SPAN = {"text": TEXT, "first": 4, "last": 8, "value": "C", "layer": 0, "units": [1, 5]}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "text.txt").write_text(LEARNT)
    small = {"hidden_size": 8, "window": 16, "batch_size": 4, "device": "cpu", "threads": 1, "steps": 20}
    training.start(Language, Settings(text=(str(folder / "text.txt"),), **small), folder / "run", Progress())
    return folder


@contextmanager
def serving(home, port=0):
    """The process, and the port on which it says that it is."""
    with begun(command("explain", "run", "--serve", "--port", port, "--text", TEXT), home) as process:
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), process.stderr.read()
        yield process, int(line.split(":")[2].split("/")[0])


@pytest.fixture(scope="module")
def server(home):
    with serving(home) as (_, port):
        yield port


def ask(port, method, path, body=None, **headers):
    """(status, headers, body)"""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None and "Content-Type" not in named:
        named["Content-Type"] = "application/json"
    connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body), named)
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def raw(port, text):
    """What comes back for bytes as they are."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(text.encode())
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


# -- to whom


def test_it_listens_on_loopback_only(server):
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == server]
    assert listening == [f"0100007F:{server:04X}"]
    six = Path("/proc/net/tcp6")
    assert not six.exists() or f":{server:04X} " not in six.read_text().replace(" 0A ", "LISTENS")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::1]", ""])
def test_other_names_of_the_host_are_refused(server, host):
    answer = raw(server, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"<html" not in answer


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_its_own_names_are_answered(server, host):
    answer = raw(server, f"GET / HTTP/1.1\r\nHost: {host}:{server}\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


def test_other_origins_are_refused(server):
    question = {"start": 0, "count": 5}
    assert ask(server, "POST", "/api/slice", question, Origin="http://evil.example")[0] == 403
    assert ask(server, "POST", "/api/slice", question, Origin=f"http://127.0.0.1:{server + 1}")[0] == 403
    assert ask(server, "POST", "/api/slice", question, Origin="null")[0] == 403
    assert ask(server, "POST", "/api/slice", question, Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(server, "POST", "/api/slice", question, Origin=f"http://127.0.0.1:{server}")[0] == 200
    assert ask(server, "GET", "/", Sec_Fetch_Site="cross-site")[0] == 200  # a link to it


# -- what


def test_the_page_and_its_headers(server):
    status, headers, body = ask(server, "GET", "/")
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert "connect-src &#x27;self&#x27;" in body.decode().partition("</head>")[0]
    for answer in (headers, ask(server, "GET", "/nothing")[1], ask(server, "POST", "/api/slice", {})[1]):
        assert answer["x-content-type-options"] == "nosniff"
        assert answer["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer["content-security-policy"]
        assert "server" not in answer


@pytest.mark.parametrize(
    "path",
    [
        *("/nothing", "/index.html", "/page/app.js", "/model.safetensors", "/run/config.toml"),
        *("/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/api", "/api/", "/api/other"),
    ],
)
def test_there_is_nothing_else(server, path):
    assert ask(server, "GET", path)[0] == 404
    assert ask(server, "POST", path, {})[0] == 404


def test_only_the_methods_that_are_meant(server):
    assert ask(server, "POST", "/", {})[0] == 405
    assert ask(server, "GET", "/api/similar")[0] == 405
    assert ask(server, "PUT", "/api/similar", {})[0] == 405


def test_a_slice_is_of_the_text(server):
    status, _, body = ask(server, "POST", "/api/slice", {"network": 0, "start": 70, "count": 12})
    assert status == 200
    assert json.loads(body) == {"start": 70, "total": len(LEARNT), "tokens": list(LEARNT[70:82])}


def test_alike_is_what_find_alike_finds(server, home):
    status, _, body = ask(server, "POST", "/api/similar", {**SPAN, "top": 5})
    assert status == 200
    found, trained = json.loads(body), load(home / "run")
    looked_for = pattern(trained, TEXT, (4, 8), "C", 0, chosen=[1, 5])
    places = find_similar(trained, LEARNT, looked_for, by="near", top=5)
    assert [place["start"] for place in found["matches"]] == [place.start for place in places]
    assert found["span"] == pytest.approx(looked_for.activations[:, [1, 5]].numpy(), abs=1e-4)
    for shown, place in zip(found["matches"], places, strict=True):
        assert shown["score"] == pytest.approx(place.score, abs=1e-4)
        within = slice(shown["at"], shown["at"] + shown["length"])
        assert "".join(shown["tokens"][within]) == place.text == LEARNT[place.start : place.end]
        assert len(shown["values"]) == len(shown["tokens"])


def test_values_of_a_place_are_as_in_the_text(home):
    """But for what is farther back than a hundred tokens."""
    trained = load(home / "run")
    whole = record(trained, LEARNT[:2_000]).values["C"][0]
    corpus = Corpus(trained)
    looked_for = pattern(trained, TEXT, (4, 8), "C", 0, chosen=[1, 5])
    for start, values in zip((3, 150, 1_000), corpus.values(looked_for, [3, 150, 1_000]), strict=True):
        wanted = whole[max(0, start - 20) : start + 4 + 20, [1, 5]]
        torch.testing.assert_close(values, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"first": 9, "last": 4}, "a span has"),
        ({"first": -1}, "first is a whole number"),
        ({"last": 400}, "last is a whole number"),
        ({"layer": 3}, "layer is a whole number"),
        ({"units": []}, "no unit is chosen"),
        ({"units": [99]}, "units 0 to 7"),
        ({"units": ["1"]}, "a unit is a whole number"),
        ({"value": "nothing"}, "no value called nothing"),
        ({"text": ""}, "a text of 1 to"),
        ({"text": 7}, "too long"),
        ({"top": 1_000}, "top is a whole number"),
        ({"network": 1}, "load the page again"),
        ({"network": -1}, "load the page again"),
        ({"more": 1}, "load the page again"),
    ],
)
def test_questions_that_make_no_sense(server, changes, told):
    status, _, body = ask(server, "POST", "/api/similar", {**SPAN, **changes})
    assert status == 400
    assert told in json.loads(body)["error"]


def test_what_is_no_number_is_none_in_an_answer(home):
    """JSON has no NaN and no infinity."""
    assert rounded(torch.tensor([[float("nan"), 0.25], [float("inf"), -1.0]])) == [[None, 0.25], [None, -1.0]]
    corpus = Corpus(load(home / "run"))
    unknown = corpus.trained.vocabulary.encode(b"s")[0]
    with torch.no_grad():
        corpus.trained.model.embedding.weight[unknown] = float("nan")
    with pytest.raises(BadInput, match="C is not finite"):
        corpus.similar(**{**SPAN, "last": 10})
    found = corpus.similar("the do", 0, 6, "C", 0, [1])
    assert found["matches"]
    assert all(None not in row for row in found["span"])
    assert json.dumps(found, allow_nan=False)


def test_bodies_that_are_no_questions(server):
    for body in (b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000):
        assert ask(server, "POST", "/api/slice", body)[0] == 400
    assert ask(server, "POST", "/api/slice", b"{}", Content_Type="text/plain")[0] == 415
    assert ask(server, "POST", "/api/slice", b" " * (1 << 19))[0] == 413


# -- how it begins and ends


def test_a_port_in_use_is_told(home, server):
    result = called("explain", "run", "--serve", "--port", server, cwd=home)
    assert result.returncode == 2
    assert (
        result.stderr
        == f"conveyor: --port {server}: the port is in use; take another, or --port 0 for one that is free\n"
    )
    result = called("explain", "run", "--serve", "--port", 70_000, cwd=home)
    assert result.returncode == 2
    assert "0 to 65535" in result.stderr


@slow
def test_control_c_ends_it(home):
    with serving(home) as (process, port):
        assert ask(port, "GET", "/")[0] == 200
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
        assert process.returncode == 0
        assert (out, error) == ("ended\n", "")
    with serving(home, port):  # which is free again
        assert ask(port, "GET", "/")[0] == 200


def test_without_its_packages_it_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with listen(0) as listening, pytest.raises(BadInput, match=r"pip install 'conveyor\[page\]'"):
        serve("", [], listening)


# -- in the page


def test_a_span_is_looked_for_in_the_page(here, server):
    here.browser.open(f"http://127.0.0.1:{server}/")
    here.wait("document.documentElement.dataset.ready").rest()
    for step, button in ((4, "#span-from"), (7, "#span-to")):
        here.slide("#step", step)
        here.click(button)
    assert here.text(".span-now").replace("·", " ") == TEXT[4:8].replace(" ", "␣")
    here.click("#find-similar").wait("document.querySelectorAll('.places li').length")
    assert len(here.driver.find_elements(By.CSS_SELECTOR, ".places li")) == 12
    assert f"of {len(LEARNT):,} tokens" in here.text(".finder [role=status]")
    here.click(".places li:first-child button")
    assert "dog" in here.run("return document.getElementById('text').value")


LATE = """
const real = window.fetch;
window.fetch = (...question) => {
  window.fetch = real;
  return new Promise((_, fail) => { window.fail = fail; });
};
"""


def test_the_late_error_of_an_old_search_leaves_a_newer_answer(here, server):
    here.browser.open(f"http://127.0.0.1:{server}/")
    here.wait("document.documentElement.dataset.ready").rest()
    here.run(LATE)
    here.click("#find-similar").wait("window.fail")
    here.click("#find-similar").wait("document.querySelectorAll('.places li').length === 12")
    here.run("window.fail(new Error('late'))")
    here.rest()
    assert here.run("return document.querySelectorAll('.places li').length") == 12
    assert "12 most similar passages" in here.text(".finder [role=status]")
