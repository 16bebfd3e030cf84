"""The page in headless Chromium: journeys, keyboard alone, a narrow screen, two tabs, reload and back, shared links."""

import re

import pytest
from doors.web.browsing import THREAD

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 375, "height": 780}
PAGES = ["/explore", "/compare", "/choose", "/choose?step=limits", "/choose?step=machine&on=rpi3_cortex_a53", "/serve", "/shard",
         "/labs", "/explore?model=nope", "/nowhere",
         "/choose?step=decision&data.kind=tabular&data.features=30&data.labels=20000&data.classes=3&on=rpi3_cortex_a53"]  # fmt: skip
SHARED = (
    "/explore?model=mobilenet_v2&h.width=0.75&on=rpi3_cortex_a53&batch=4&precision=int8&limit.latency=900+ms"
)


class Tab:
    """A page that remembers what went wrong in it and what it asked for."""

    def __init__(self, page, base):
        self.page, self.base, self.wrong, self.asked = page, base, [], []
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda e: self.wrong.append(str(e)))
        page.on("console", self._heard)
        page.on("request", lambda r: self.asked.append(r.url))

    def _heard(self, message):
        # a mistake's status, and a request that ends because its page is left, are no errors of the page's
        if message.type == "error" and not re.match("Failed to load resource|htmx:", message.text):
            self.wrong.append(message.text)

    def go(self, path):
        self.page.goto(self.base + path)
        self.page.wait_for_load_state("networkidle")
        return self.page


@pytest.fixture
def tabs(browser, server):
    """Makes tabs; afterwards none may have heard an error or asked anyone else."""
    contexts, made = [], []

    def tab(viewport=WIDE, scheme="light", beside=None):
        if beside is None:
            contexts.append(
                browser.new_context(viewport=viewport, color_scheme=scheme, accept_downloads=True)
            )
        made.append(Tab((beside.page.context if beside else contexts[-1]).new_page(), server))
        return made[-1]

    yield tab
    for one in made:
        assert one.wrong == []
        assert all(url.startswith((server, "blob:", "data:")) for url in one.asked)
    THREAD.submit(lambda: [context.close() for context in contexts]).result()


def latency(page):
    return page.locator(".figures dd b").first.inner_text()


def until_changed(page, before):
    page.wait_for_function("(old) => document.querySelector('.figures dd b').innerText !== old", arg=before)


def test_a_slider_moves_the_answer_and_the_address(tabs):
    page = tabs().go("/explore")
    before, address = latency(page), page.url
    slider = page.get_by_label("Users at once, slider")
    slider.focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    until_changed(page, before)
    assert page.get_by_label("Users at once", exact=True).input_value() == "64"
    assert slider.get_attribute("aria-valuetext") == "64"
    page.wait_for_function("() => location.search.includes('batch=64')")
    page.wait_for_function("() => document.getElementById('told').textContent.includes('a step')")
    page.go_back()
    page.wait_for_function("(old) => document.querySelector('.figures dd b')?.innerText === old", arg=before)
    assert page.url == address
    assert page.get_by_label("Users at once", exact=True).input_value() == "1"


def test_reload_and_a_shared_link_restore_the_question(tabs):
    first = tabs().go(SHARED)
    told = first.locator(".verdict").inner_text()
    assert "mobilenet_v2(width=0.75)" in told
    first.reload()
    first.wait_for_load_state("networkidle")
    other = tabs().go(SHARED)
    for page in (first, other):
        assert page.locator(".verdict").inner_text() == told
        assert page.get_by_label("Batch", exact=True).input_value() == "4"
        assert page.get_by_label("Width", exact=True).input_value() == "0.75"
        assert page.get_by_label("Latency at most").input_value() == "900 ms"
        assert page.get_by_label("Latency at most").is_visible()
        assert page.get_by_label("Precision").input_value() == "int8"


def test_two_tabs_ask_different_things(tabs):
    one = tabs()
    two = tabs(beside=one)
    one.go("/explore?model=resnet50&on=nvidia_t4")
    two.go("/explore?model=vgg16&on=nvidia_l4")
    one.page.get_by_label("Batch", exact=True).fill("8")
    one.page.keyboard.press("Enter")
    one.page.wait_for_function("() => location.search.includes('batch=8')")
    two.page.reload()
    assert "vgg16" in two.page.locator(".verdict").inner_text()
    assert two.page.get_by_label("Batch", exact=True).input_value() == "1"
    assert "resnet50" in one.page.locator(".verdict").inner_text()


def test_a_model_brings_its_own_fields(tabs):
    page = tabs().go("/explore")
    page.get_by_label("Model", exact=True).fill("mobilenet_v2")
    page.keyboard.press("Tab")
    page.wait_for_selector("#f-h-width", state="attached")
    page.get_by_text("Architecture").click()
    before = latency(page)
    page.get_by_label("Width", exact=True).fill("2")
    until_changed(page, before)
    page.get_by_label("Model", exact=True).fill("mobilenet_v9")
    page.keyboard.press("Tab")
    page.wait_for_selector(".mistake")
    page.wait_for_selector("#f-model[aria-invalid=true]")
    assert "mobilenet_v" in page.locator(".mistake").inner_text()
    page.get_by_label("Model", exact=True).fill("mobilenet_v1")
    page.keyboard.press("Tab")
    page.wait_for_selector(".figures")
    page.wait_for_selector("#f-model:not([aria-invalid])")


def test_by_keyboard_alone_from_data_to_contract(tabs):
    page = tabs().go("/choose")

    def tab_to(condition, most=60):
        for _ in range(most):
            page.keyboard.press("Tab")
            if page.evaluate(f"(() => {{ const e = document.activeElement; return {condition}; }})()"):
                return
        raise AssertionError(f"no Tab leads to {condition}")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    tab_to("e.type === 'radio'")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector("#f-data-features")
    page.wait_for_function("() => document.activeElement.value === 'tabular'")
    tab_to("e.id === 'f-data-labels'")
    page.keyboard.type("20000")
    tab_to("e.id === 'f-data-classes'")
    page.keyboard.type("3")
    tab_to("e.id === 'f-data-features'")
    page.keyboard.type("30")
    tab_to("e.innerText === 'Next: limits'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#f-limit-latency")
    tab_to("e.id === 'f-limit-latency'")
    page.keyboard.type("50 ms")
    tab_to("e.innerText === 'Next: machine'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#f-on")
    tab_to("e.id === 'f-on'")
    page.keyboard.type("Raspberry Pi 3")
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.search.includes('on=rpi3_cortex_a53')")
    page.wait_for_selector("#f-capacity")
    tab_to("e.innerText === 'Decide'")
    page.keyboard.press("Enter")
    page.wait_for_selector(".trail", timeout=60_000)
    assert "mlp" in page.locator(".verdict").inner_text()
    tab_to("e.innerText === 'contract.yaml'")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    with page.expect_download() as waited:
        page.keyboard.press("Enter")
    text = waited.value.path().read_text(encoding="utf-8")
    assert waited.value.suggested_filename == "contract.yaml"
    assert "latency: 0.05" in text


def test_machines_are_compared_and_one_is_explored(tabs):
    page = tabs().go("/compare?model=resnet50&on=nvidia_t4&precision=fp16")
    page.get_by_label("NVIDIA L4", exact=True).check()
    page.wait_for_function("() => document.querySelectorAll('.card').length === 2")
    assert "on=nvidia_l4" in page.url
    page.get_by_role("link", name="NVIDIA L4", exact=True).click()
    page.wait_for_selector(".figures")
    assert "resnet50 on NVIDIA L4" in page.locator(".verdict").inner_text()


def test_serving_is_planned_and_remedies_are_tried(tabs):
    page = tabs().go("/serve?model=llama-3.1-8b&on=nvidia_l4&users=4&context=2048")
    headline = page.locator(".verdict h2").inner_text()
    page.get_by_label("Context of each", exact=True).fill("4096")
    page.wait_for_function("(old) => document.querySelector('.verdict h2').innerText !== old", arg=headline)
    page.get_by_role("button", name="Try every remedy").click()
    page.wait_for_selector("#remedies table", timeout=60_000)
    assert page.locator("#remedies tbody tr").count() > 3


def test_tables_are_laid_over_devices(tabs):
    page = tabs().go("/shard?model=own&tables=4+x+1e6x64&devices=2&on=nvidia_t4")
    page.wait_for_selector(".of-devices")
    assert page.locator(".of-devices:visible rect").count() >= 4
    assert "4 tables fit on 2 x NVIDIA T4" in page.locator(".verdict").inner_text()


def test_an_upload_is_explored(tabs, tmp_path):
    place = tmp_path / "config.json"
    place.write_text('{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, '
                     '"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100}')  # fmt: skip
    page = tabs().go("/explore?on=nvidia_t4")
    page.get_by_text("Upload a model").click()
    page.get_by_label("ONNX file or Hugging Face config.json").set_input_files(place)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_selector(".figures", timeout=60_000)
    assert re.search(r"model=@|model=%40", page.url)
    assert "config.json, uploaded" in page.locator(".ask").inner_text()


def test_a_lab_runs_and_can_be_stopped(tabs):
    page = tabs().go("/labs")
    page.get_by_role("button", name="Run tensor-parallel").click()
    page.wait_for_selector("#lab progress")
    address = page.url
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".verdict.unknown")
    assert page.url == address
    assert "stopped" in page.locator("#lab").inner_text().lower()


@pytest.mark.parametrize("path", PAGES)
def test_accessible_in_light_and_dark_and_narrow_enough(tabs, path):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    ).Axe()
    for viewport, scheme in ((WIDE, "light"), (NARROW, "dark")):
        page = tabs(viewport, scheme).go(path)
        if "decision" in path or "shard" in path:
            page.wait_for_selector("#answer .block", timeout=60_000)
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        found = axe.run(page).response["violations"]
        serious = [(v["id"], v["impact"], [n["html"][:160] for n in v["nodes"][:3]]) for v in found]
        assert serious == []
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_it_prints_without_its_form(tabs):
    page = tabs().go("/explore")
    page.emulate_media(media="print")
    assert not page.locator(".ask").is_visible()
    assert page.locator(".verdict").first.is_visible()


def test_without_scripts_the_form_still_asks(browser, server):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server + "/explore?model=resnet50&on=nvidia_t4")
    page.get_by_label("Batch", exact=True).fill("16")
    page.get_by_role("button", name="Answer").click()
    assert "batch=16" in page.url
    assert "resnet50 on NVIDIA T4" in page.locator(".verdict").inner_text()
    page.goto(server + "/choose")
    page.get_by_role("button", name="Limits", exact=True).click()
    assert "What must hold?" in page.content()
    context.close()
