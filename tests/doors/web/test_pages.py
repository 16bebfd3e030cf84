"""Every page over HTTP: what it says agrees with the library, mistakes are told in place, downloads are files."""

import re

import pytest
from doors.web.conftest import words

import pharos
from pharos.quantity.units import fmt

PAGES = ["/explore", "/compare", "/choose", "/choose?step=limits", "/choose?step=machine", "/choose?step=decision", "/serve",
         "/shard", "/labs"]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_whole_and_links_nothing_outside(client, path):
    found = client.get(path)
    assert found.status_code == 200
    html = found.text
    assert html.startswith("<!doctype html>")
    assert html.count("<h1") == 1
    assert 'lang="en"' in html
    linked = re.findall(r'(?:src|href|action|hx-get)="([^"]*)"', html)
    assert linked
    assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in linked)
    assert "<style" not in html
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", html)
    for script in re.findall(r'src="(/static/[^"]*)"', html):
        assert client.get(script).status_code == 200


def test_every_field_has_a_label(client):
    for path in PAGES:
        html = client.get(path).text
        for tag in re.findall(r"<(?:input|select|textarea)\b[^>]*>", html, re.S):
            if 'type="hidden"' in tag:
                continue
            name = re.search(r'\bid="([^"]+)"', tag)
            labelled = "aria-label=" in tag or (name and f'for="{name[1]}"' in html)
            inside = re.search(r"<label[^>]*>[^<]*" + re.escape(tag), html)
            assert labelled or inside, tag


def test_explore_says_what_predict_says(client):
    asked = {"model": "resnet50", "on": "a100-sxm-80gb", "batch": "8", "precision": "fp16"}
    told = words(client.get("/explore", params=asked).text)
    found = pharos.predict("resnet50", on="a100-sxm-80gb", batch=8, precision="fp16")
    assert fmt(found.latency.value, "s") in told
    assert f"{fmt(found.latency.low, 's')} to {fmt(found.latency.high, 's')}" in told
    assert fmt(found.memory.total, "B") in told
    assert "25,557,032 parameters" in told
    assert "fitted" in told
    assert "pharos predict resnet50 --on nvidia_a100_sxm_80gb --batch 8 -p fp16" in told


def test_explore_json_is_that_of_predict(client):
    from pharos.report.rows import predict_row

    asked = {"model": "gpt2-xl", "on": "h100-sxm", "phase": "decode", "context": "512", "precision": "bf16"}
    found = client.get("/explore.json", params=asked)
    wanted = predict_row(
        pharos.predict("gpt2-xl", on="h100-sxm", phase="decode", context=512, precision="bf16")
    )
    assert found.headers["content-type"] == "application/json"
    assert found.json()["latency_s"] == pytest.approx(wanted["latency_s"])
    assert found.json()["memory_bytes"]["kv_cache"] == wanted["memory_bytes"]["kv_cache"]


def test_a_part_is_the_answer_alone(client):
    part = client.get("/explore/result", params={"model": "lenet5", "on": "cortex-a53"}).text
    assert "<html" not in part
    assert "<form" not in part
    assert "data-summary" in part


def test_the_page_of_a_question_holds_its_fields(client):
    asked = {"model": "mobilenet_v2", "h.width": "0.75", "batch": "4", "limit.latency": "80 ms", "precision": "int8",
             "on": ["rpi3_cortex_a53", "rpi4_cortex_a72"]}  # fmt: skip
    html = client.get("/explore", params=asked).text
    assert re.search(r'name="batch" value="4"', html)
    assert re.search(r'name="h.width" value="0.75"', html)
    assert re.search(r'name="limit.latency" value="80 ms"', html)
    assert html.count(" selected>") >= 4
    assert "Raspberry Pi 4" in html
    assert "mobilenet_v2(width=0.75)" in html


def test_width_moves_the_counts(client):
    def parameters(width):
        told = words(
            client.get(
                "/explore", params={"model": "mobilenet_v2", "h.width": width, "on": "cortex-a53"}
            ).text
        )
        return int(re.search(r"([\d,]+) parameters", told)[1].replace(",", ""))

    assert parameters("0.5") == pharos.show("mobilenet_v2(width=0.5)").parameters < parameters("1.0")


@pytest.mark.parametrize(("limit", "verdict"), [("100 s", "holds"), ("1 us", "broken")])
def test_limits_are_judged(client, limit, verdict):
    html = client.get("/explore", params={"model": "lenet5", "on": "cortex-a53", "limit.latency": limit}).text
    assert f'class="verdict {verdict}"' in html


def test_a_limit_inside_the_band_cannot_be_told(client):
    found = pharos.predict("lenet5", on="cortex-a53")
    html = client.get(
        "/explore", params={"model": "lenet5", "on": "cortex-a53", "limit.latency": str(found.latency.value)}
    ).text
    assert 'class="verdict unknown"' in html
    assert "Measure latency" in words(html)


def test_the_contract_of_the_page_is_one(client, tmp_path):
    asked = {
        "model": "mobilenet_v2",
        "h.width": "0.75",
        "on": "cortex-a53",
        "precision": "int8",
        "limit.latency": "500 ms",
    }
    found = client.get("/explore/contract.yaml", params=asked)
    assert "attachment" in found.headers["content-disposition"]
    place = tmp_path / "contract.yaml"
    place.write_text(found.text, encoding="utf-8")
    verdict = pharos.check(place)
    assert verdict.model == "mobilenet_v2(width=0.75)"
    assert [limit.name for limit in verdict.limits] == ["latency"]
    assert client.get("/explore/contract.yaml", params={"model": "lenet5"}).status_code == 422


def test_compare_sorts_and_links(client):
    asked = {"model": "resnet50", "on": ["t4", "h100-sxm", "cortex-a53"], "precision": "fp16"}
    html = client.get("/compare", params=asked).text
    order = [html.index(f">{name}</a>") for name in ("NVIDIA H100 SXM5 80GB", "NVIDIA T4")]
    assert order == sorted(order)
    assert 'href="/explore?model=resnet50&amp;precision=fp16&amp;on=nvidia_t4"' in html


def test_serve_says_what_serve_says(client):
    found = pharos.serve("llama-3.1-8b", on="h100-sxm", context=4096, users=16)
    told = words(client.get("/serve").text)
    assert f"{found.max_users:,} users of 4,096 tokens fit at once" in told
    assert fmt(found.tpot.value, "s") in told
    assert fmt(found.kv_bytes_per_request, "B", digits=4) in told
    assert "What would help" in told


def test_serve_refuses_what_is_no_decoder(client):
    found = client.get("/serve", params={"model": "resnet50"})
    assert found.status_code == 422
    assert 'data-field="model"' in found.text


def test_shard_says_what_shard_says(client):
    asked = {
        "model": "own",
        "tables": "3 x 1e6x64:10\n5e7x128:1",
        "devices": "2",
        "on": "a100-sxm-80gb",
        "batch": "4096",
    }
    told = words(client.get("/shard/result", params=asked).text)
    assert "4 tables fit on 2 x NVIDIA A100 SXM 80GB" in told
    assert "t3" in told
    assert "Above the best" in told


def test_shard_tells_what_would_do(client):
    asked = {"model": "own", "tables": "4e9x512", "devices": "1", "on": "a100-sxm-80gb"}
    told = words(client.get("/shard/result", params=asked).text)
    assert "do not fit" in told
    assert "What would do" in told


BRIEF = {"step": "decision", "data.kind": "images", "data.labels": "20000", "data.classes": "50", "data.resolution": "96",
         "limit.latency": "500 ms", "limit.memory": "64 MB", "on": "cortex-a53", "name": "camera"}  # fmt: skip


def test_the_decision_is_that_of_choose(client, tmp_path):
    place = tmp_path / "brief.yaml"
    place.write_text(client.get("/choose/brief.yaml", params=BRIEF).text, encoding="utf-8")
    wanted = pharos.choose(place)
    html = client.get("/choose/result", params=BRIEF).text
    assert wanted.chosen is not None
    assert f">{wanted.chosen.member.model}</h2>" in html
    assert html.count("<li class=") >= len(wanted.trail)
    contract = tmp_path / "contract.yaml"
    contract.write_text(client.get("/choose/contract.yaml", params=BRIEF).text, encoding="utf-8")
    assert pharos.check(contract).verdict in ("holds", "unknown")


def test_a_path_keeps_what_other_steps_said(client):
    html = client.get("/choose", params=BRIEF | {"step": "limits"}).text
    assert '<input type="hidden" name="data.labels" value="20000">' in html
    assert re.search(r'name="limit.latency" value="500 ms"', html)
    assert 'type="hidden" name="limit.latency"' not in html


def test_nothing_stands_is_told_with_its_conflict(client):
    told = words(client.get("/choose/result", params=BRIEF | {"limit.latency": "1 ns"}).text)
    assert told.startswith("✕ Nothing stands")
    assert "latency" in told
    assert client.get("/choose/contract.yaml", params=BRIEF | {"limit.latency": "1 ns"}).status_code == 422


def test_identifiers_need_their_cardinalities(client):
    found = client.get("/choose/result", params={"step": "decision", "data.kind": "interactions"})
    assert found.status_code == 422
    assert 'data-field="data.tables"' in found.text


WRONG = [
    ("/explore", {"model": "resnet5o"}, "model", "resnet50"),
    ("/explore", {"model": "resnet50", "on": "a1oo"}, "on", "unknown machine"),
    ("/explore", {"model": "resnet50", "batch": "0"}, "batch", "between 1 and"),
    ("/explore", {"model": "resnet50", "batch": "two"}, "batch", "not a plain number"),
    ("/explore", {"model": "resnet50", "batch": "1.5"}, "batch", "no whole number"),
    ("/explore", {"model": "resnet50", "precision": "fp31"}, "precision", "unknown dtype"),
    ("/explore", {"model": "llama-3.1-8b", "context": "1e7"}, "context", "beyond the model"),
    ("/explore", {"model": "resnet50", "limit.latency": "1o ms"}, "limit.latency", "10 ms"),
    ("/explore", {"model": "resnet50", "limit.memory": "5 s"}, "limit.memory", "not a size in bytes"),
    ("/explore", {"model": "mobilenet_v2", "h.width": "-1"}, "model", "between 0 and"),
    ("/explore", {"model": "resnet50", "phase": "sleep", "on": "t4"}, "phase", "prefill"),
    ("/explore", {"model": "resnet50", "on": ["t4", "l4", "a10", "a30"]}, "on", "at most 3"),
    ("/compare", {"order": "beauty"}, "order", "latency"),
    ("/serve", {"users": "1e9"}, "users", "between 1 and"),
    ("/serve", {"context": "64", "prompt": "100", "output": "5"}, "context", "do not go into"),
    ("/serve", {"stack": "none of them"}, "stack", "unknown"),
    ("/shard/result", {"model": "own", "tables": "rows"}, "tables", "ROWSxDIM"),
    ("/shard/result", {"model": "own"}, "tables", "at least one"),
    ("/shard/result", {"devices": "10000"}, "devices", "between 1 and"),
    ("/choose/result", {"step": "limits", "limit.accuracy": "150%"}, "limit.accuracy", "85%"),
    ("/choose/result", {"step": "data", "data.labels": "many"}, "data.labels", "not a plain number"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "asked", "field", "says"),
    WRONG,
    ids=[f"{p[1:]}-{f}-{i}" for i, (p, _, f, _) in enumerate(WRONG)],
)
def test_mistakes_are_told_in_place(client, path, asked, field, says):
    found = client.get(path, params=asked)
    assert found.status_code == 422
    assert f'data-field="{field}"' in found.text
    assert says in words(found.text)
    assert "Traceback" not in found.text


def test_what_is_wrong_on_our_side_is_told_without_a_trace(client, monkeypatch, capsys):
    from pharos.doors.web import explore

    def broken(*_):
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(explore, "whole", broken)
    found = client.get("/explore", params={"model": "lenet5", "batch": "77"})
    assert found.status_code == 500
    assert "secret" not in found.text
    code = re.search(r"under (\w{8})", words(found.text))[1]
    assert code in capsys.readouterr().err


def test_the_same_question_is_answered_once(client, lane):
    asked = {"model": "lenet5", "on": "cortex-a53", "batch": "3"}
    before = len(lane.jobs)
    first, second = (client.get("/explore/result", params=asked) for _ in range(2))
    assert first.text == second.text
    assert len(lane.jobs) == before + 1
