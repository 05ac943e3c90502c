"""The page at `/` in a real browser."""

from __future__ import annotations

import pytest

from tests.entrypoints.openai.support import let_model_write, running
from tests.waiting import PATIENCE

TAB, ENTER, ESCAPE, SHIFT = "\ue004", "\ue007", "\ue00c", "\ue008"


class Page:
    """The page, as its user sees it."""

    def __init__(self, browser, server, path="/"):
        self.browser = browser
        self.wrong()  # what others have done wrong in this browser is forgotten
        browser.get(f"{server.url}{path}")
        self.until(lambda: self.text("#context") or self.text("#error"))

    def until(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.browser, PATIENCE, 0.05).until(lambda _: condition())

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def text(self, selector):
        return self.find(selector).get_property("textContent")

    def type(self, keys, selector="#message"):
        self.find(selector).send_keys(keys)

    def set(self, name, value):
        self.browser.execute_script(f"document.getElementById('{name}').value = {value!r}")

    def ended(self):
        """Waits for the answer's end; returns its text."""
        self.until(lambda: self.all(".retry"))
        return self.all(".answer")[-1].get_property("textContent")

    def wrong(self):
        """The browser's errors and warnings."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture
def page(browser, server):
    return Page(browser, server)


def answer_of(llm, *turns):
    params = llm.engine.generation_defaults.params(temperature=0, max_tokens=12)
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)]
    return llm.chat(messages, params)[0]


def test_a_conversation_is_the_librarys(page, llm):
    page.set("temperature", "0")
    page.set("max_tokens", "12")
    page.type("the cat" + ENTER)
    first = page.ended()
    expected = answer_of(llm, "the cat")
    assert first == expected.outputs[0].text
    page.type("the dog" + ENTER)
    page.until(lambda: len(page.all(".answer")) == 2)
    assert page.ended() == answer_of(llm, "the cat", first, "the dog").outputs[0].text
    figures = page.all(".figures")[0].text
    assert figures.startswith("first token after ")
    assert " · 12 tokens at " in figures
    assert f" · prompt of {len(expected.prompt_token_ids)} tokens, 0 cached" in figures
    assert figures.endswith("stopped at the token limit")
    page.find(".retry").click()
    page.ended()
    assert ", 16 cached" in page.all(".figures")[1].text
    assert page.wrong() == []


def test_what_a_model_writes_is_text(page, monkeypatch):
    """Reasoning and content, however hostile, make no element and run no script."""
    hostile = (
        '<img src=x onerror="window.stolen = 1"><script>window.stolen = 1</script>&amp;\n**a**'
    )
    let_model_write(monkeypatch, hostile, size=7)
    page.type(hostile.replace("\n", " ") + ENTER)
    assert page.ended() == hostile
    assert page.text(".user .text") == hostile.replace("\n", " ")
    assert page.all("#conversation img, #conversation script") == []
    assert page.browser.execute_script("return window.stolen") is None
    assert page.wrong() == []


def test_reasoning_is_apart(chat_model, browser, monkeypatch):
    let_model_write(monkeypatch, "<think>Hm <b>.</think>Yes.", size=3)
    with running(chat_model.folder, reasoning_parser="qwen3") as server:
        page = Page(browser, server)
        page.type("well?" + ENTER)
        assert page.ended() == "Yes."
        assert page.text(".thought") == "Hm <b>."
        assert page.find("article details").get_property("open") is False


def test_an_answer_is_stopped_and_asked_for_again(page, server, monkeypatch):
    with monkeypatch.context() as patch:
        let_model_write(patch, "and so on, ", size=4, holds=True)
        page.type("the cat" + ENTER)
        page.until(lambda: page.text(".answer") == "and so on, ")
        assert page.find("#conversation").get_attribute("aria-busy") == "true"
        page.type(ESCAPE)
        page.ended()
        assert page.find(".figures").text.endswith("stopped")
        assert page.find("#send").is_displayed()
        page.find(".retry").click()
        page.until(lambda: page.text(".answer") == "and so on, ")
        page.find("#stop").click()
        page.ended()
        assert not any(server.settled().values())
    let_model_write(monkeypatch, "Done.")
    page.find(".retry").click()
    assert page.ended() == "Done."
    assert len(page.all("article.assistant")) == 1
    assert page.text("#status") == "The model wrote: Done."


def test_a_new_chat_forgets_the_old_one(page, server, llm, monkeypatch):
    with monkeypatch.context() as patch:
        let_model_write(patch, "and so on, ", holds=True)
        page.type("the mat" + ENTER)
        page.until(lambda: page.text(".answer"))
        page.find("#new").click()
        assert page.all("article") == []
        assert not any(server.settled().values())
    page.set("temperature", "0")
    page.set("max_tokens", "12")
    page.type("the cat" + ENTER)
    assert page.ended() == answer_of(llm, "the cat").outputs[0].text


def test_errors_are_said_and_the_question_may_be_asked_again(page, llm):
    page.set("temperature", "0")
    page.set("max_tokens", "1000")
    page.type("the cat" + ENTER)
    page.ended()
    assert "this model's maximum context length is 160 tokens" in page.find("[role=alert]").text
    page.set("max_tokens", "12")
    page.find(".retry").click()
    page.until(lambda: page.text(".answer") and page.all(".retry"))
    assert page.ended() == answer_of(llm, "the cat").outputs[0].text
    assert page.text("[role=alert]") == ""


def test_a_value_that_is_no_number_is_not_sent(page):
    page.find("#parameters summary").click()
    page.type("-1", "#temperature")
    page.type("the cat" + ENTER)
    assert page.all("article") == []
    assert page.find("#message").get_property("value") == "the cat"


def test_a_key_is_asked_for(chat_model, browser):
    with running(chat_model.folder, api_keys=["secret"], names=["tiny", "other"]) as server:
        page = Page(browser, server)
        assert "requires an API key" in page.find("[role=alert]").text
        assert page.browser.switch_to.active_element.get_attribute("id") == "key"
        page.type("secret" + TAB, "#key")
        page.until(lambda: page.text("#context"))
        assert [option.text for option in page.all("#model option")] == ["tiny", "other"]
        page.type("the cat" + ENTER)
        assert page.ended()
        page = Page(browser, server)  # the same tab: it still has the key
        assert page.text("#context") == "160 tokens of context"


def test_it_works_with_a_keyboard_and_a_screen_reader(page):
    unnamed = page.browser.execute_script(
        "return [...document.querySelectorAll('input, textarea, select')]"
        ".filter(field => !field.labels.length).map(field => field.id)"
    )
    assert unnamed == []
    page.browser.execute_script("document.getElementById('new').focus()")
    reached = []
    for _ in range(4):
        page.browser.switch_to.active_element.send_keys(TAB)
        reached.append(page.browser.switch_to.active_element)
    names = [each.get_attribute("id") or each.tag_name for each in reached]
    assert names == ["conversation", "summary", "message", "send"]
    assert page.find("[role=log]").get_attribute("aria-label") == "Conversation"
    page.type("one" + SHIFT + ENTER + SHIFT + "two")
    assert page.find("#message").get_property("value") == "one\ntwo"
    assert page.all("article") == []


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_a_phone_and_a_desk(browser, page, monkeypatch, width):
    let_model_write(monkeypatch, "x" * 300 + "\n" + "many words " * 60)
    metrics = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.find("#parameters summary").click()
        page.type("y" * 100 + ENTER)
        assert page.ended().startswith("xxx")
        size = browser.execute_script(
            "const e = document.documentElement; return [e.scrollWidth, e.scrollHeight]"
        )
        bottom = browser.execute_script(
            "return document.getElementById('send').getBoundingClientRect().bottom"
        )
        below = browser.execute_script(
            "const e = document.querySelector('main');"
            "return e.scrollHeight - e.clientHeight - e.scrollTop"
        )
        small = browser.execute_script(
            "return [...document.querySelectorAll('button, select, summary + .fields input')]"
            ".filter(each => each.offsetHeight && each.offsetHeight < 44).map(each => each.id)"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert size[0] <= width
    assert size[1] <= 700
    assert bottom <= 700
    assert below < 2, "the end of the answer is not in view"
    assert small == []


def test_nothing_comes_from_elsewhere(server):
    for path in ("/", "/page.css", "/page.js"):
        answer = server.http.get(path)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http:" not in policy + answer.text
        assert "https:" not in policy + answer.text


def test_behind_a_proxys_path(chat_model):
    """Which may take it off or not: all addresses of the page are relative."""
    with running(chat_model.folder, root_path="/llm", api_keys=["key"]) as server:
        text = server.http.get("/").text
        assert 'src="page.js"' in text
        assert 'href="page.css"' in text
        for path in ("", "/llm"):
            assert server.http.get(f"{path}/page.js").status_code == 200
            assert server.http.get(f"{path}/health").status_code == 200
            assert server.http.get(f"{path}/v1/models").status_code == 401
            key = {"Authorization": "Bearer key"}
            assert server.http.get(f"{path}/v1/models", headers=key).status_code == 200
            error = server.http.post(f"{path}/v1/messages", headers=key, json={}).json()
            assert error["type"] == "error"  # in Anthropic's format
        assert server.http.get("/llm/llm/health").status_code == 401
