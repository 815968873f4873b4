// Runs the scenarios of docs/easemob.md in a jsdom window with the vendor's SDK, and prints what they print, a JSON list
// a line.
//
//   node document.mjs DIRECTORY SCRIPT      DIRECTORY holds `node_modules`
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [directory, file] = process.argv.slice(2);
const load = createRequire(path.join(directory, "package.json"));
const { JSDOM, VirtualConsole } = load("jsdom");
const dom = new JSDOM("<!doctype html><title>page</title>", {
  url: "http://127.0.0.1/", runScripts: "outside-only", virtualConsole: new VirtualConsole(),
});
const { window } = dom;
window.eval(readFileSync(load.resolve("easemob-websdk"), "utf8"));
window.print = (...values) => process.stdout.write(JSON.stringify(values) + "\n");
window.done = (error) => {
  if (error !== null) process.stderr.write(`${error.stack ?? JSON.stringify(error)}\n`);
  process.exit(error === null ? 0 : 1);
};
window.eval(`(async () => {
  const console = { log: print };
  ${readFileSync(file, "utf8")}
})().then(() => done(null), done);`);
