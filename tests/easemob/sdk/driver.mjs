// Drives the vendor's Web SDK, unmodified, in pages: jsdom windows (each a browser of its own) or pages of a headless
// Chromium. Reads commands and writes answers and reports, one JSON text a line.
//
//   node driver.mjs DIRECTORY [CHROMIUM]      DIRECTORY holds `node_modules`
//
// A command is {"id", "page", "op", "args"}: `open` and `close` make and end pages, all else is a method of `agent`,
// or, where a page was opened at a `url` of its own, of Playwright's `Page`.
// An answer is {"id", "result"} or {"id", "error"}; a report is {"page", "connection", "callback", "args"}, or
// {"page", "unhandled"} for an error that nobody caught.
import { readFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import vm from "node:vm";

const [directory, chromiumPath] = process.argv.slice(2);
const load = createRequire(path.join(directory, "package.json"));
const agentPath = path.join(path.dirname(fileURLToPath(import.meta.url)), "agent.js");
const scripts = new Map();
const pages = new Map();

function say(message) {
  process.stdout.write(JSON.stringify(message) + "\n");
}

function sdkPath(version) {
  return load.resolve(version ? `easemob-websdk-${version}` : "easemob-websdk");
}

function script(file) {
  if (!scripts.has(file)) {
    scripts.set(file, new vm.Script(readFileSync(file, "utf8"), { filename: file }));
  }
  return scripts.get(file);
}

function described(error) {
  if (error !== null && typeof error === "object" && !(error instanceof Error)) {
    // Of another realm, or the SDK's own: a plain object with `type` and `message`.
    return { name: error.name, message: error.message, type: error.type, data: error.data, stack: error.stack,
             reason: error.reason };
  }
  return { name: error?.name, message: String(error?.message ?? error), type: error?.type, data: error?.data,
           stack: error?.stack };
}

class WindowPage {
  constructor(name, version, origin) {
    const { JSDOM, VirtualConsole } = load("jsdom");
    this.dom = new JSDOM("<!doctype html><title>page</title>", {
      url: origin, runScripts: "outside-only", pretendToBeVisual: true, virtualConsole: new VirtualConsole(),
    });
    this.dom.window.report = (text) => say({ page: name, ...JSON.parse(text) });
    const context = this.dom.getInternalVMContext();
    script(sdkPath(version)).runInContext(context);
    script(agentPath).runInContext(context);
  }

  run(method, args) {
    // Arguments are made inside the window, as an application's would be.
    const { window } = this.dom;
    return window.agent[method](...window.JSON.parse(JSON.stringify(args)));
  }

  close() {
    this.dom.window.close();
  }
}

let browser = null;

function newPage(name, options) {
  if (browser === null) {
    const { chromium } = load("playwright-core");
    browser = chromium.launch({
      executablePath: chromiumPath,
      args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    });
  }
  return browser.then((running) => running.newContext(options)).then((context) => context.newPage()).then((page) => {
    page.on("pageerror", (error) => say({ page: name, unhandled: described(error) }));
    return page;
  });
}

class ChromiumPage {
  static origin = null;

  static async open(name, version) {
    const made = new ChromiumPage();
    ChromiumPage.origin ??= emptyPages();
    made.page = await newPage(name);
    await made.page.exposeFunction("report", (text) => say({ page: name, ...JSON.parse(text) }));
    await made.page.goto(await ChromiumPage.origin);
    await made.page.addScriptTag({ path: sdkPath(version) });
    await made.page.addScriptTag({ path: agentPath });
    return made;
  }

  async run(method, args) {
    // A rejection is carried as a value: it need not be an `Error`, and its fields would be lost.
    const [result, error] = await this.page.evaluate(async ([name, given]) => {
      try {
        return [await window.agent[name](...given), null];
      } catch (thrown) {
        return [null, window.agent.plain(thrown)];
      }
    }, [method, args]);
    if (error !== null) throw error;
    return result;
  }

  close() {
    return this.page.context().close();
  }
}

// A page of somebody's: looked at and used as a person does.
class ForeignPage {
  static async open(name, url, options) {
    const made = new ForeignPage();
    made.page = await newPage(name, options);
    await made.page.goto(url);
    return made;
  }

  async run(method, args) {
    const result = await this.page[method](...args);
    return ["string", "number", "boolean"].includes(typeof result) || Array.isArray(result) ? result : null;
  }

  close() {
    return this.page.context().close();
  }
}

// An origin for pages: not that of the API, so that requests go across origins as those of an application do.
function emptyPages() {
  const server = http.createServer((_, response) => {
    response.setHeader("Content-Type", "text/html");
    response.end("<!doctype html><title>page</title>");
  });
  server.unref();
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}/`));
  });
}

function opened(name, { kind, version, url, options }) {
  if (url !== undefined) return ForeignPage.open(name, url, options);
  return kind === "chromium" ? ChromiumPage.open(name, version) : new WindowPage(name, version, "http://page.test/");
}

async function run({ page, op, args }) {
  if (op === "open") {
    pages.set(page, await opened(page, args[0]));
    return null;
  }
  const found = pages.get(page);
  if (op === "close") {
    pages.delete(page);
    await found.close();
    return null;
  }
  return await found.run(op, args);
}

process.on("unhandledRejection", (error) => say({ page: null, unhandled: described(error) }));
process.on("uncaughtException", (error) => say({ page: null, unhandled: described(error) }));

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  run(command).then(
    (result) => say({ id: command.id, result: result ?? null }),
    (error) => say({ id: command.id, error: described(error) }),
  );
}
if (browser !== null) await (await browser).close();
process.exit(0);
