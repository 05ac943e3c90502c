// node send.mjs PACKAGE BASE_URL PATH FIRST < CASES: sends each request with OpenAI's client for Node.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , folder, baseURL, path, placeholder] = process.argv;
const { default: OpenAI } = await import(pathToFileURL(`${folder}/index.mjs`).href);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const create = {
  "/v1/completions": (body) => client.completions.create(body),
  "/v1/chat/completions": (body) => client.chat.completions.create(body),
  "/v1/responses": (body) => client.responses.create(body),
}[path];

let first = null;
for (const body of JSON.parse(readFileSync(0, "utf8"))) {
  if (body.previous_response_id === placeholder) body.previous_response_id = first;
  const answer = await create(body);
  if (body.stream) for await (const _ of answer);
  else first ??= answer.id;
}
