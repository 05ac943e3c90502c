// Fills the form with the available choices, and shows the command. The page's own address is the
// base of every URL, so the page works at any address.
"use strict";
const choices = JSON.parse(document.getElementById("choices").textContent);
const field = (id) => document.getElementById(id);
const NAMES = { release: "Release", nightly: "Nightly", commit: "A commit" };

function offer(select, values, label) {
  const before = select.value;
  select.replaceChildren(...values.map((value) => new Option(label(value), value)));
  if (values.includes(before)) select.value = before;
}

const cudaName = (variant) => `CUDA ${variant.slice(2, -1)}.${variant.slice(-1)}`;
const pythonName = (python) => python.replace("any", "3.8 and newer").replace(" aarch64", ", on Arm");
const byVersion = (a, b) => a.localeCompare(b, "en", { numeric: true });

function chosen() {
  const channel = field("channel").value;
  return channel === "commit" ? choices.commits[field("commit").value] : choices.channels[channel];
}

function update() {
  field("commit-field").hidden = field("channel").value !== "commit";
  offer(field("cuda"), Object.keys(chosen()), cudaName);
  const wheels = chosen()[field("cuda").value];
  const pythons = Object.keys(wheels).sort(byVersion);
  offer(field("python"), ["any", ...pythons.filter((python) => python !== "any")], pythonName);
  const url = new URL(wheels[field("python").value], new URL(".", location.href)).href;
  const torch = choices.torch[field("cuda").value];
  const uv = field("client").value === "uv";
  const install = uv ? "uv pip install" : "pip install";
  field("command").textContent = `${install} ${url}${torch ? ` --extra-index-url ${torch}` : ""}`;
  field("update").textContent = `${install} ${uv ? "--reinstall" : "--force-reinstall --no-deps"} ${url}`;
  field("copied").textContent = "";
}

async function copy(event) {
  const id = event.target.dataset.copy;
  try {
    await navigator.clipboard.writeText(field(id).textContent);
    field("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(field(id));
    field("copied").textContent = "Selected: press Ctrl+C.";
  }
}

const commits = Object.keys(choices.commits);
const channels = [...Object.keys(choices.channels), ...(commits.length ? ["commit"] : [])];
if (channels.length) {
  offer(field("channel"), channels, (channel) => NAMES[channel]);
  offer(field("commit"), commits, (commit) => commit.slice(0, 9));
  document.querySelector("form").addEventListener("change", update);
  document.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", copy));
  update();
  field("choose").hidden = false;
}

// A row matches if it contains every word; one of four or more characters may also begin its hash.
function search() {
  const words = field("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...document.querySelectorAll("tr[data-search]")];
  for (const row of rows) {
    const [hash, ...rest] = row.dataset.search.toLowerCase().split(" ");
    const found = (word) => word.length >= 4 && hash.startsWith(word);
    row.hidden = !words.every((word) => found(word) || rest.join(" ").includes(word));
  }
  const left = rows.filter((row) => !row.hidden).length;
  field("found").textContent = words.length ? `${left} of ${rows.length} commits` : "";
}

field("search").addEventListener("input", search);
field("search-field").hidden = false;
