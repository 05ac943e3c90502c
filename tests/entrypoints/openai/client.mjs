// node client.mjs PACKAGE BASE_URL: what OpenAI's client for Node makes of the server, as JSON.
import { pathToFileURL } from "node:url";

const [, , folder, baseURL] = process.argv;
const { default: OpenAI } = await import(pathToFileURL(`${folder}/index.mjs`).href);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const model = "tiny";
const messages = [{ role: "user", content: "the cat" }];
const greedy = { temperature: 0, ignore_eos: true };

const models = [];
for await (const { id } of client.models.list()) models.push(id);

const completion = await client.completions.create({ model, prompt: "the cat", max_tokens: 8, ...greedy });

const asked = { model, messages, max_completion_tokens: 8, ...greedy };
const whole = await client.chat.completions.create(asked);
const pieces = [];
let usage = null;
const stream = await client.chat.completions.create({
  ...asked,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  pieces.push(chunk.choices[0]?.delta.content ?? "");
  usage = chunk.usage ?? usage;
}

const left = await client.completions.create({ model, prompt: "the cat", max_tokens: 140, stream: true, ...greedy });
for await (const _ of left) break; // leaves the stream: the server is to cancel it

const schema = { type: "object", properties: { side: { enum: ["left", "right"] } }, required: ["side"] };
const forced = await client.chat.completions.create({
  model,
  messages,
  max_tokens: 140,
  seed: 1,
  bad_words: [" ", "\n", "\r", "\t"],
  tools: [{ type: "function", function: { name: "turn", parameters: { ...schema, additionalProperties: false } } }],
  tool_choice: "required",
});

let refused = null;
try {
  await client.completions.create({ model, prompt: "a", suffix: "b" });
} catch (error) {
  refused = { status: error.status, param: error.param, code: error.code, kind: error.constructor.name };
}

console.log(
  JSON.stringify({
    models,
    completion: completion.choices[0].text,
    whole: whole.choices[0].message.content,
    streamed: pieces.join(""),
    tokens: usage.completion_tokens,
    call: forced.choices[0].message.tool_calls[0].function,
    refused,
  }),
);
