// A conversation with the server that this page comes from. A model's output becomes text nodes, never
// markup.
"use strict";

const $ = (id) => document.getElementById(id);
const NUMBERS = ["temperature", "top_p", "top_k", "max_tokens", "seed"];

let messages = []; // the conversation as sent to the server, without the system message
let running = null; // the AbortController of the current answer

// The server

function headers() {
  const key = $("key").value || sessionStorage.getItem("key") || "";
  const found = { "Content-Type": "application/json" };
  if (key) found.Authorization = `Bearer ${key}`;
  return found;
}

async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers() });
  if (response.ok) {
    if ($("key").value) sessionStorage.setItem("key", $("key").value);
    return response;
  }
  if (response.status === 401) $("key-field").hidden = false;
  const body = await response.json().catch(() => ({}));
  throw new Error(body.error?.message ?? `the server answered ${response.status}`);
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("the connection was lost during the answer");
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      if (part === "data: [DONE]") return;
      const event = JSON.parse(part.slice("data: ".length));
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

async function loadModels() {
  try {
    const { data } = await (await ask("v1/models")).json();
    $("model").replaceChildren(...data.map(({ id }) => new Option(id, id)));
    $("model-field").hidden = data.length < 2;
    $("context").textContent =
      (data.length < 2 ? `${data[0].id}, ` : "") + `${data[0].max_model_len} tokens of context`;
    $("error").textContent = "";
  } catch (error) {
    $("error").textContent = error.message;
    if (!$("key-field").hidden) $("key").focus();
  }
}

function body() {
  const system = $("system").value.trim();
  const given = {};
  for (const name of NUMBERS) if ($(name).value !== "") given[name] = Number($(name).value);
  return {
    ...($("model").value ? { model: $("model").value } : {}),
    ...given,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...messages],
    stream: true,
    stream_options: { include_usage: true },
  };
}

// The page

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Keeps the end in view while content is added, unless the user has scrolled away from it.
const view = document.querySelector("main");
let isAtEnd = true;
let lastTop = 0;

function follow(change) {
  change();
  if (isAtEnd) view.scrollTop = view.scrollHeight;
}

function showSaid(text) {
  const said = make("div", { className: "text" }, text);
  const article = make("article", { className: "user" }, make("h2", {}, "You"), said);
  $("empty").hidden = true;
  isAtEnd = true;
  follow(() => $("conversation").append(article));
}

class AnswerView {
  constructor() {
    for (const old of document.querySelectorAll(".retry")) old.remove(); // only the last answer has one
    this.thought = make("div", { className: "text thought" });
    this.details = make("details", { hidden: true }, make("summary", {}, "Reasoning"), this.thought);
    this.text = make("div", { className: "text answer" });
    this.figures = make("span", { className: "figures" });
    this.actions = make("div", { className: "actions" }, this.figures);
    this.article = make("article", { className: "assistant" }, make("h2", {}, "Model"));
    this.article.append(this.details, this.text, this.actions);
    follow(() => $("conversation").append(this.article));
  }

  add(delta) {
    follow(() => {
      if (delta.reasoning) {
        this.details.hidden = false;
        this.thought.append(delta.reasoning);
      }
      if (delta.content) this.text.append(delta.content);
    });
  }

  end(figures, failed) {
    follow(() => {
      this.figures.textContent = figures;
      this.figures.classList.toggle("failed", failed);
      const retry = make("button", { type: "button", className: "retry" }, "Retry");
      retry.addEventListener("click", () => {
        if (running) return;
        if (messages.at(-1).role === "assistant") messages.pop();
        this.article.remove();
        $("message").focus();
        answer();
      });
      this.actions.append(retry);
    });
  }
}

function figures(clock, usage, reason) {
  const parts = [];
  if (clock.first) parts.push(`first token after ${seconds(clock.first - clock.asked)}`);
  if (usage) {
    const count = usage.completion_tokens;
    // Several tokens may share an event: with few events, the time between tokens is unknown.
    const isSpread = clock.events > 4;
    const time = (clock.last - (isSpread ? clock.first : clock.asked)) / 1000;
    const rate = (isSpread ? count - 1 : count) / time;
    parts.push(`${count} tokens` + (clock.events ? ` at ${rounded(rate)} tokens/s` : ""));
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    parts.push(`prompt of ${usage.prompt_tokens} tokens, ${cached} cached`);
  }
  if (reason) parts.push(reason);
  return parts.join(" · ");
}

const rounded = (number) => (number < 100 ? number.toPrecision(3) : String(Math.round(number)));
const seconds = (milliseconds) =>
  milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;

function setRunning(controller) {
  running = controller;
  $("send").hidden = running !== null;
  $("stop").hidden = running === null;
  $("conversation").setAttribute("aria-busy", String(running !== null));
  if (running) $("status").textContent = "The model is writing.";
}

async function answer() {
  const view = new AnswerView();
  const clock = { asked: performance.now(), first: 0, last: 0, events: 0 };
  const controller = new AbortController();
  let content = "", usage = null, reason = "", failure = "";
  setRunning(controller);
  $("error").textContent = "";
  try {
    const options = { method: "POST", body: JSON.stringify(body()), signal: controller.signal };
    for await (const event of events(await ask("v1/chat/completions", options))) {
      usage = event.usage ?? usage;
      if (!event.choices.length) continue; // the last event has only the usage
      const [{ delta, finish_reason }] = event.choices;
      clock.last = performance.now();
      clock.first ||= clock.last;
      clock.events += 1;
      content += delta.content ?? "";
      view.add(delta);
      if (finish_reason === "length") reason = "stopped at the token limit";
    }
  } catch (error) {
    if (!controller.signal.aborted) failure = error.message;
    reason = failure ? "failed" : "stopped";
  }
  if (running !== controller) return; // a new chat was started meanwhile
  setRunning(null);
  if (content) messages.push({ role: "assistant", content });
  view.end(figures(clock, usage, reason), failure !== "");
  $("status").textContent = failure ? "" : `The model wrote: ${content}`; // for screen readers
  $("error").textContent = failure;
}

function send() {
  const said = $("message").value.trim();
  if (!said || running || !$("ask").reportValidity()) return;
  $("message").value = "";
  // Templates require alternating turns: a question without an answer is not sent again.
  if (messages.at(-1)?.role === "user") messages.pop();
  messages.push({ role: "user", content: said });
  showSaid(said);
  answer();
}

function beginAnew() {
  const before = running;
  setRunning(null);
  before?.abort();
  messages = [];
  $("conversation").replaceChildren();
  $("empty").hidden = false;
  $("status").textContent = $("error").textContent = "";
  $("message").focus();
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
$("stop").addEventListener("click", () => {
  running?.abort();
  $("message").focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
view.addEventListener("scroll", () => {
  const isNear = view.scrollHeight - view.scrollTop - view.clientHeight < 40;
  isAtEnd = isNear || (isAtEnd && view.scrollTop >= lastTop);
  lastTop = view.scrollTop;
});
new ResizeObserver(() => follow(() => {})).observe(view);
$("new").addEventListener("click", beginAnew);
$("key").addEventListener("change", loadModels);
$("message").focus();
loadModels();
