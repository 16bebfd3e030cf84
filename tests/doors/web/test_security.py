"""Who may ask and for how much: hosts, origins, token, headers, bodies, paths, and questions that would take hours."""

import asyncio
import re
import time
from http.cookies import SimpleCookie
from urllib.parse import quote

import pytest
from doors.web.conftest import Here, words
from starlette.testclient import TestClient

from pharos.doors.web import bounds
from pharos.doors.web.app import create_app
from pharos.doors.web.bounds import check_hyperparameters
from pharos.quantity.errors import InputError

TOKEN = "t0ken-of-the-test"


def made(**given):
    return create_app(made_lanes=dict.fromkeys(("quick", "upload", "slow"), Here()), **given)


@pytest.fixture(scope="module")
def open_to_others():
    with TestClient(
        made(hosts=None, token=TOKEN), base_url="http://192.0.2.7:8765", follow_redirects=False
    ) as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/explore", "/nothing", "/static/app.css", "/labs", "/explore?model=nope", "/favicon.ico"]
)
def test_every_answer_has_the_headers(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "no-store" in headers["cache-control"] or path.startswith("/static")
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "testserver.evil.example", "", "127.0.0.1.evil.example", "[::1", "a" * 300]
)
def test_another_host_is_refused(client, host):
    found = client.get("/explore", headers={"host": host})
    assert found.status_code == 421
    assert "Pharos" in found.text


def test_a_server_for_others_goes_by_addresses_not_names(open_to_others):
    assert open_to_others.get("/explore").status_code == 401
    assert open_to_others.get("/explore", headers={"host": "rebound.example:8765"}).status_code == 421
    assert open_to_others.get("/explore", headers={"host": "[2001:db8::1]:8765"}).status_code == 401
    assert open_to_others.get("/explore", headers={"host": "localhost:8765"}).status_code == 401


def test_names_can_be_allowed():
    with TestClient(
        made(hosts=frozenset({"lab.example"}), token=None), base_url="http://lab.example"
    ) as client:
        assert client.get("/explore?model=lenet5&on=t4").status_code == 200
        assert client.get("/explore", headers={"host": "10.0.0.1"}).status_code == 421


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://testserver:81", "https://testserver.evil.example",
                                    "file://", "testserver"])  # fmt: skip
def test_posts_come_from_the_page_alone(client, origin):
    headers = {} if origin is None else {"origin": origin}
    assert client.post("/labs/start", data={"lab": "pipeline"}, headers=headers).status_code == 403
    assert client.post("/upload", files={"file": ("a.onnx", b"x")}, headers=headers).status_code == 403


def test_other_sites_cannot_make_the_machine_work(client):
    embedded = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert client.get("/explore", headers=embedded).status_code == 403
    assert (
        client.get(
            "/explore?model=lenet5&on=t4", headers=embedded | {"sec-fetch-mode": "navigate"}
        ).status_code
        == 200
    )


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(client, method):
    assert client.request(method, "/explore").status_code == 405


def test_the_token_is_shown_once_and_leaves_the_address(open_to_others):
    for path in ("/", "/explore?model=lenet5", "/labs", "/upload"):
        assert open_to_others.get(path).status_code == 401
    assert open_to_others.get("/static/app.css").status_code == 200
    for wrong in ("", "x", TOKEN[:-1], TOKEN + "x", "é"):
        assert open_to_others.get("/explore", params={"token": wrong}).status_code == 401
    found = open_to_others.get("/explore", params={"model": "lenet5", "on": "t4", "token": TOKEN})
    assert found.status_code == 303
    assert found.headers["location"] == "/explore?model=lenet5&on=t4"
    cookie = SimpleCookie(found.headers["set-cookie"])["pharos"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    assert TOKEN not in cookie.value
    assert open_to_others.get("/explore?model=lenet5&on=t4").status_code == 200
    open_to_others.cookies.clear()
    assert open_to_others.get("/explore", headers={"cookie": f"pharos={TOKEN}"}).status_code == 401
    assert open_to_others.get("/explore", headers={"cookie": "pharos=; ;;="}).status_code == 401


def test_the_way_back_from_a_token_is_on_this_server(open_to_others):
    for path in ("/%2fevil.example/", "/%5cevil.example", "/%2f%2f%5cevil.example"):
        found = open_to_others.get(path, params={"token": TOKEN})
        open_to_others.cookies.clear()
        assert found.status_code == 303
        assert re.match(r"/[^/\\]", found.headers["location"])


def test_a_token_is_not_needed_to_be_told_so(open_to_others):
    page = open_to_others.get("/explore?model=<script>alert(1)</script>").text
    assert "A token is needed" in page
    assert "<script>alert" not in page
    assert TOKEN not in page


@pytest.mark.parametrize("path", [
    "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/....//app.py", "/static//etc/passwd",
    "/static/%2fetc%2fpasswd", "/static/app.css%00.html", "/static/", "/static/templates", "/../../etc/passwd", "/labs/run/../../x",
    "/labs/run/%2e%2e/state", "/static/app.css/../app.js/x",
])  # fmt: skip
def test_no_path_leads_to_a_file(client, path):
    found = client.get(path)
    assert found.status_code in (404, 405)
    assert "root:" not in found.text
    assert "import" not in found.text


HOSTILE_MODELS = [
    "os:system", "json.tool:main", "pharos.doors.cli:main", "../../../etc/passwd", "/etc/passwd", "/etc/hostname.json", "a.onnx",
    "./model.onnx", "config.json", "http://evil.example/x.onnx", "owner/name", "resnet50(", "resnet50(__import__('os'))",
    "resnet50(classes=__import__('os').system('x'))", "mlp(widths=" + "[" * 200, "@" + "0" * 24, "@../../x", "resnet50\x00.onnx",
    "resnet50(classes=10**9)", "mlp(widths=(" + "9," * 90 + "))", "resnet50" + "(" * 50, "{{7*7}}", "${7*7}", "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("model", HOSTILE_MODELS, ids=range(len(HOSTILE_MODELS)))
def test_a_model_is_a_name_of_the_catalogue(client, model, monkeypatch):
    from pharos.convert import load

    def forbidden(*_):
        raise AssertionError("a question reached the loader of files and code")

    monkeypatch.setattr(load, "load", forbidden)
    for path in ("/explore", "/serve", "/compare"):
        found = client.get(path, params={"model": model})
        assert found.status_code == 422, found.text[:500]
        assert "Traceback" not in found.text
        assert "49" not in words(found.text)[:40]


@pytest.mark.parametrize(
    "machine", ["/etc/passwd", "../x.yaml", "a.yml", "x.json", "here.json", "HERE.JSON", "a/b", "\\x", "@x"]
)
def test_a_machine_is_a_name_of_the_catalogue(client, machine):
    for path in ("/explore", "/serve", "/shard/result", "/choose/result"):
        found = client.get(path, params={"on": machine, "step": "decision"})
        assert found.status_code == 422
        assert 'data-field="on"' in found.text


def test_what_was_written_is_shown_as_text(client):
    bad = '"><img src=x onerror=alert(1)>'
    for name in (
        "model",
        "on",
        "batch",
        "limit.latency",
        "precision",
        "dims",
        "runtime",
        "phase",
        "h.width",
        "name",
        "data.kind",
    ):
        for path in ("/explore", "/choose", "/serve", "/compare", "/shard"):
            assert "<img src=x" not in client.get(path, params={name: bad}).text


def test_long_questions_are_refused(client):
    assert client.get("/explore?model=" + "a" * bounds.LONGEST_QUERY).status_code == 414
    assert client.get("/" + "a" * 300).status_code == 414


def test_many_pairs_are_no_burden(client):
    query = "&".join(f"h.k{i}=1" for i in range(700))
    start = time.perf_counter()
    assert client.get(f"/explore?model=lenet5&on=t4&{query}").status_code == 200
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("given", [
    {"layers": 10**6}, {"depth": 2000}, {"blocks": 1e9}, {"depths": (600, 600)}, {"width": 10**11}, {"widths": (8,) * 1000},
    {"resolution": -(10**12)}, {"repeats": 10**9},
])  # fmt: skip
def test_sizes_beyond_any_network_are_refused(given):
    with pytest.raises(InputError, match="at most"):
        check_hyperparameters("net", given)


@pytest.mark.parametrize(("model", "knob"), [
    ("cifar_resnet", "h.depth=999998"), ("sequence_rnn", "h.layers=100000"), ("lstm_tagger", "h.layers=5000"), ("unet", "h.depth=900000"),
    ("plain_net(depths=(400,400,400,400))", ""), ("mlp(widths=(1,) * 100000)", ""),
])  # fmt: skip
def test_deep_networks_are_not_built(client, model, knob):
    start = time.perf_counter()
    assert client.get(f"/explore?model={quote(model)}&on=t4&{knob}").status_code == 422
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize(
    "number", ["1e400", "-1", "nan", "inf", "9" * 400, "0x10", "1e-400", "１２", "1_0_0__", "--", "1e", "٣"]
)
def test_strange_numbers_are_refused_or_read(client, number):
    for path, name in (("/explore", "batch"), ("/explore", "limit.power"), ("/serve", "users"), ("/shard/result", "zipf"),
                       ("/choose/result", "limit.memory")):  # fmt: skip
        found = client.get(path, params={name: number, "model": "" if path != "/explore" else "lenet5"})
        assert found.status_code in (200, 422)
        assert "Traceback" not in found.text


def test_bodies_are_bounded(client):
    origin = {"origin": "http://testserver"}
    big = b"x" * (bounds.LARGEST_BODY + 1)
    assert client.post("/labs/start", content=big, headers=origin).status_code == 413
    for length in ("-1", "abc", str(10**15)):
        assert (
            client.post("/upload", content=b"", headers=origin | {"content-length": length}).status_code
            == 413
        )


def asked_raw(messages, path="/labs/start", kind=b"application/x-www-form-urlencoded"):
    """What the application sends for a POST whose body comes in pieces of our own making."""
    sent = []

    async def run():
        async def receive():
            await asyncio.sleep(0.01)
            return next(messages, {"type": "http.disconnect"})

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"testserver"), (b"origin", b"http://testserver"),
                   (b"content-type", kind)]  # fmt: skip
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers,
                 "scheme": "http", "server": ("testserver", 80), "client": ("127.0.0.1", 1), "root_path": "", "http_version": "1.1",
                 "asgi": {"version": "3.0"}}  # fmt: skip
        await made(hosts=frozenset({"testserver"}))(scope, receive, send)

    asyncio.run(run())
    return sent[0]["status"]


def test_a_body_without_a_length_is_bounded_too(monkeypatch):
    from pharos.doors.web import guard

    monkeypatch.setattr(guard, "LARGEST_UPLOAD", 1000)
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = [{"type": "http.request", "body": b, "more_body": True} for b in (head, *[b"a" * 8192] * 100)]
    pieces = iter(body)
    assert asked_raw(pieces, "/upload", b"multipart/form-data; boundary=x") == 413
    # it was not read to its end
    assert len(list(pieces)) > 85
    assert asked_raw(iter(body[1:]), "/labs/start") in (400, 413)


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    from pharos.doors.web import guard

    monkeypatch.setattr(guard, "BODY_S", 0.0)
    assert asked_raw(iter([{"type": "http.request", "body": b"a", "more_body": True}] * 9)) == 408


def test_labs_are_those_of_the_list(client):
    origin = {"origin": "http://testserver"}
    for lab, more in (
        ("nothing", {}),
        ("../x", {}),
        ("pipeline", {"processes": "999"}),
        ("pipeline", {"seed": "1e12"}),
    ):
        found = client.post("/labs/start", data={"lab": lab} | more, headers=origin)
        assert found.status_code == 422
        assert 'role="alert"' in found.text
    for name in ("0" * 16, "x", "%00"):
        assert client.get(f"/labs/run/{name}").status_code == 404
        assert client.post(f"/labs/run/{name}/stop", headers=origin).status_code == 404
