// The console in headless Chromium, driven from outside against the real program on embedded SQLite: every flow with script and
// once more without, by keyboard alone, by names that would be markup, and every page for accessibility (axe-core), light and
// dark, wide and narrow. Of every page that is loaded anywhere here: no error on its console, nothing that its policy refuses,
// no dialog, no request to anywhere else. Nothing sleeps: all that is waited for is a condition.
//
// Run by console.sh, which installs what it needs.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtemp, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import readline from "node:readline";
import { promisify } from "node:util";

const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), "../..");
const require = createRequire(path.join(root, "target/external/node/"));
const { chromium } = require("playwright-core");
const axe = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
const run = promisify(execFile);
const program = process.env.PROGRAM;
const pictures = process.argv.includes("--pictures");
const PICTURES = path.join(root, "docs/console");
/** Longer than anything takes on a slow machine: only what fails waits for so long. */
const PATIENCE = 30_000;
const PASSWORD = "correct horse battery staple";
const GRID = "/grid/2025-10-13";
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"];
const SIZES = { wide: { width: 1280, height: 800 }, narrow: { width: 390, height: 844 } };

/** A server with a database of its own. */
class Server {
  static async start() {
    const server = new Server();
    server.data = await mkdtemp(path.join(tmpdir(), "console-"));
    server.process = spawn(
      program,
      ["serve", "--data", server.data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log", "warn", "--flush-interval", "1s"],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    server.log = [];
    for await (const line of readline.createInterface({ input: server.process.stderr })) {
      server.log.push(line);
      if (line.startsWith("admin on ")) server.admin = line.slice("admin on ".length);
      if (line.startsWith("listening on ")) server.api = line.slice("listening on ".length);
      if (server.admin && server.api) break;
    }
    assert(server.admin && server.api, server.log.join("\n"));
    server.process.stderr.resume();
    return server;
  }
  command(...words) {
    return run(program, [...words, "--data", this.data]);
  }
  async invite(name) {
    const { stdout } = await this.command("operator", "create", name, "--role", "owner", "--output", "json");
    return JSON.parse(stdout).invitation;
  }
  /** The status with which the API answers somebody with these credentials. */
  async asked({ clientId, clientSecret }) {
    const authorization = "Basic " + Buffer.from(`${clientId}:${clientSecret}`).toString("base64");
    return (await fetch(this.api + GRID + "/tokens", { headers: { authorization } })).status;
  }
  async stop() {
    this.process.kill();
    await rm(this.data, { recursive: true, force: true });
  }
}

/** What an app shows for a second factor, each code once, as the server takes them. */
class Codes {
  constructor(base32) {
    let bits = "";
    for (const letter of base32.replace(/[\s=]/g, "")) {
      bits += "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter.toUpperCase()).toString(2).padStart(5, "0");
    }
    this.secret = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
    this.last = 0;
  }
  next() {
    const now = Math.floor(Date.now() / 30_000);
    this.last = Math.max(this.last + 1, now);
    assert(this.last <= now + 1, "more codes are needed than there are: use another operator");
    const counter = Buffer.alloc(8);
    counter.writeBigUInt64BE(BigInt(this.last));
    const hash = createHmac("sha1", this.secret).update(counter).digest();
    const number = hash.readUInt32BE(hash[19] & 15) & 0x7fff_ffff;
    return String(number % 1_000_000).padStart(6, "0");
  }
}

/** A browser of somebody's own, in which everything that no page may do fails the run. */
async function visit(browser, server, script, wrongs) {
  const context = await browser.newContext({ javaScriptEnabled: script, baseURL: server.admin, viewport: SIZES.wide });
  context.setDefaultTimeout(PATIENCE);
  context.expected = new Set();
  const wrong = (text) => wrongs.push(`${script ? "" : "without script: "}${text}`);
  context.on("console", (message) => {
    const refused = /status of (4\d\d)/.exec(message.text());
    // Browsers note refusals, which are pages here; those that a flow provokes.
    if (refused && context.expected.has(refused[1])) return;
    if (["error", "warning"].includes(message.type())) wrong(`${message.location().url}: ${message.text()}`);
  });
  context.on("weberror", (error) => wrong(`${error.page()?.url()}: ${error.error()}`));
  context.on("dialog", (dialog) => {
    wrong(`${dialog.page()?.url()}: a dialog, ${dialog.message()}`);
    dialog.dismiss();
  });
  context.on("request", (request) => {
    if (new URL(request.url()).origin !== server.admin) wrong(`a request to ${request.url()}`);
  });
  context.on("response", (response) => {
    if ((response.status() < 300 || response.status() >= 400) && !response.headers()["content-security-policy"]?.includes("default-src 'none'")) {
      wrong(`${response.url()} has no policy`);
    }
    if (response.status() >= 500) wrong(`${response.url()}: ${response.status()}`);
  });
  if (script) {
    await context.exposeFunction("violated", (what) => wrong(`its policy refuses ${what}`));
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => window.violated(`${event.violatedDirective} ${event.blockedURI}`));
    });
  }
  return context;
}

const heading = (page) => page.getByRole("heading", { level: 1 });
const nav = (page, name) => page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
const button = (page, name) => page.getByRole("button", { name, exact: true });
const link = (page, name) => page.getByRole("link", { name, exact: true });
const field = (page, name) => page.getByLabel(name, { exact: true });
const arrived = (page, words) => heading(page).filter({ hasText: words }).waitFor();
const said = (page, words) => page.locator(".notice, .wrong").filter({ hasText: words }).first().waitFor();
const rows = (page) => page.locator("tbody tr");
/** Waits until something is as it should be. */
async function until(what, holds) {
  for (const end = Date.now() + PATIENCE; !(await holds()); ) {
    assert(Date.now() < end, `never: ${what}`);
    // Others have their turn: what is waited for may be one of them.
    await new Promise(setImmediate);
  }
}

/** Looks at the page that stands there as everybody may see it, and takes its pictures where they are asked for. */
async function look(page, name, looked, picture = pictures) {
  if (!looked) return;
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    for (const [size, viewport] of Object.entries(SIZES)) {
      await page.setViewportSize(viewport);
      const where = `${name}, ${colorScheme}, ${size}`;
      await page.evaluate(axe);
      const { violations } = await page.evaluate((values) => window.axe.run(document, { runOnly: { type: "tag", values } }), TAGS);
      for (const { id, nodes } of violations) looked.wrongs.push(`${where}: ${id}: ${nodes.map((node) => node.html).join(" ").slice(0, 500)}`);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      if (over > 0) looked.wrongs.push(`${where}: ${over} px wider than the window`);
      looked.at++;
      if (picture && (colorScheme === "light") === (size === "wide")) {
        const file = path.join(PICTURES, `${name}-${colorScheme}.png`);
        await page.evaluate(() => (document.activeElement?.blur(), window.scrollTo(0, 0)));
        // Not all of a long list.
        const height = Math.min(await page.evaluate(() => document.documentElement.scrollHeight), 1.6 * viewport.height);
        await page.screenshot({ path: file, fullPage: true, animations: "disabled", clip: { x: 0, y: 0, width: viewport.width, height } });
        await run("pngquant", ["--force", "--strip", "--speed", "1", "--ext", ".png", "64", file]);
        const { size: bytes } = await stat(file);
        if (bytes > 80_000) looked.wrongs.push(`${file} has ${bytes} bytes`);
      }
    }
  }
  await page.setViewportSize(SIZES.wide);
  await page.emulateMedia({ colorScheme: "light" });
}

async function accept(page, name, invitation, looked) {
  await page.goto("/console/");
  await arrived(page, "Sign in");
  await look(page, "sign-in", looked);
  await link(page, "I have an invitation").click();
  await arrived(page, "Accept an invitation");
  await look(page, "invitation", looked);
  const codes = new Codes(await page.locator(".copyable code").innerText());
  await field(page, "Name").fill(name);
  await field(page, "Invitation").fill(invitation);
  await page.locator("#password").fill(PASSWORD);
  await page.locator("#again").fill(PASSWORD);
  await page.locator("#code").fill(codes.next());
  await button(page, "Accept and sign in").click();
  await arrived(page, "Tokens");
  return codes;
}

/** The credentials that a page shows, once. */
async function shown(page) {
  const of = async (name) => page.locator(".secret").filter({ has: page.getByText(name, { exact: true }) }).locator("code").allInnerTexts();
  const [clientIds, clientSecrets] = [await of("clientId"), await of("clientSecret")];
  assert.equal(clientIds.length, clientSecrets.length);
  return clientIds.map((clientId, place) => ({ clientId, clientSecret: clientSecrets[place] }));
}

async function make_platform(page, name, click = (button) => button.click()) {
  await nav(page, "Platforms");
  await field(page, "Name").fill(name);
  await click(button(page, "Make it"));
  await arrived(page, `${name} is there`);
  return shown(page);
}

/** Clicks once more while the answer is on its way: the form is sent once, and what its answer shows is seen. */
async function click_twice(button) {
  const page = button.page();
  let sent = 0;
  let release;
  const released = new Promise((resolve) => (release = resolve));
  await page.route("**/*", async (route) => {
    if (route.request().method() === "POST") {
      sent++;
      await released;
    }
    // One that another has taken the place of goes nowhere.
    await route.continue().catch(() => {});
  });
  await button.scrollIntoViewIfNeeded();
  const { x, y, width, height } = await button.boundingBox();
  // As a hand does it, which does not wait for the page.
  const click = () => page.mouse.click(x + width / 2, y + height / 2);
  await click();
  await until("it is sent", () => sent === 1);
  await click();
  release();
  await page.locator(".secret").first().waitFor();
  await page.unroute("**/*");
  assert.equal(sent, 1, "a form is sent twice");
}

/** A page that shows something once, loaded again: its form is sent again, makes nothing, and shows nothing. */
async function sent_again(page, ...secrets) {
  await page.reload();
  await page.getByText("by the form that you sent before").waitFor();
  const html = await page.content();
  for (const secret of secrets) assert(secret && !html.includes(secret), "a form that is sent again shows a secret");
}

/** Somebody's other browser: with the same cookie. */
async function another(browser, server, script, wrongs, context) {
  const other = await visit(browser, server, script, wrongs);
  await other.addCookies(await context.cookies());
  const page = await other.newPage();
  await page.goto("/console/account");
  return { page, close: () => other.close() };
}

async function make_token(page, where, name, permissions) {
  await nav(page, "Tokens");
  await link(page, "Create a token").click();
  await arrived(page, "Create a token");
  await field(page, "Where").selectOption({ label: where });
  await field(page, "Name").fill(name);
  for (const permission of permissions) await page.locator(`#${permission.toLowerCase()}`).check();
  await button(page, "Create").click();
  await arrived(page, `${name} is there`);
  const [made] = await shown(page);
  return made;
}

/**
 * A page that renews itself while it is seen, and no longer. Its clock is this test's: a quarter of a minute goes by at once. Returns
 * what waits until it is as it should be.
 */
async function watch(context, address) {
  const page = await context.newPage();
  await page.clock.install();
  await page.goto(address);
  let asked = 0;
  page.on("request", (request) => (asked += request.url() === address));
  const show = (hidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  return async (holds) => {
    await page.clock.runFor(10_000);
    assert.equal(asked, 0, "it renews itself too early");
    // Whoever reads the bars keeps what they have selected, and nothing says that there are others.
    assert.equal(await page.locator("[data-renew]").filter({ has: page.locator("[aria-live], [role=status], [role=alert]") }).count(), 0);
    assert.equal(await page.locator("[aria-live] [data-renew]").count(), 0);
    await show(true);
    await page.clock.runFor(60_000);
    assert.equal(asked, 0, "it renews itself where nobody sees it");
    await show(false);
    await until("it renews itself when it is seen again", () => asked === 1);
    await until("and goes on", async () => (await page.clock.runFor(15_000), asked > 1 && (await holds(page))));
    // Somebody who is signed out meanwhile is told so.
    const cookies = await context.cookies();
    await context.clearCookies();
    await page.clock.runFor(15_000);
    await arrived(page, "Sign in");
    await context.addCookies(cookies);
    await page.close();
  };
}

/** Everything that an owner does, in a browser with or without script. */
async function flows(browser, server, script, wrongs, looked) {
  const context = await visit(browser, server, script, wrongs);
  const page = await context.newPage();
  const codes = await accept(page, "ada@example.com", await server.invite("ada@example.com"), looked);
  await page.getByText("There is no platform yet").waitFor();
  await look(page, "tokens-empty", looked);

  // Out and in again; from a page that they wanted, back to it.
  await button(page, "Sign out").click();
  await arrived(page, "Sign in");
  await page.goto("/console/platforms");
  await arrived(page, "Sign in");
  await field(page, "Name").fill("ada@example.com");
  await field(page, "Password").fill("not the password at all");
  await page.locator("#code").fill("000000");
  context.expected.add("403");
  await button(page, "Sign in").click();
  await said(page, "That does not let anybody in");
  await look(page, "sign-in-refused", looked, false);
  context.expected.clear();
  await field(page, "Password").fill(PASSWORD);
  await page.locator("#code").fill(codes.next());
  await button(page, "Sign in").click();
  await arrived(page, "Platforms");
  assert.equal(new URL(page.url()).pathname, "/console/platforms");
  await look(page, "platforms-empty", looked, false);

  // Platforms, whose root tokens are good for something.
  const halves = await make_platform(page, "Acme Payroll");
  await look(page, "platform-made", looked);
  assert.equal(halves.length, 2);
  for (const root of halves) assert.equal(await server.asked(root), 200);
  await sent_again(page, ...halves.map((root) => root.clientSecret));
  await look(page, "platform-made-before", looked, false);
  await nav(page, "Platforms");
  await until("one platform", async () => (await rows(page).count()) === 1);
  // Clicked twice it is sent once, where there is script: its secrets are seen.
  assert.equal((await make_platform(page, "Northwind Travel", (button) => (script ? click_twice(button) : button.click()))).length, 2);
  await nav(page, "Platforms");
  await until("two platforms", async () => (await rows(page).count()) === 2);

  // A token: its secret once, and never again.
  const rest = [
    ["Northwind Travel – production", "Booking engine", ["VIEW", "TRANSACT"]],
    ["Northwind Travel – sandbox", "Continuous integration", ["VIEW", "TRANSACT", "MANAGE"]],
    ["Acme Payroll – sandbox", "Integration tests", ["VIEW", "TRANSACT"]],
    ["Acme Payroll – production", "Ledger export", ["VIEW"]],
  ];
  for (const token of rest) await make_token(page, ...token);
  await nav(page, "Tokens");
  await link(page, "Create a token").click();
  await arrived(page, "Create a token");
  await look(page, "token-new", looked);
  await field(page, "Name").fill("Nightly payouts");
  context.expected.add("400");
  await button(page, "Create").click();
  await said(page, "Permissions must be at least one.");
  context.expected.clear();
  assert.equal(await field(page, "Name").inputValue(), "Nightly payouts");
  const payouts = await make_token(page, "Acme Payroll – production", "Nightly payouts", ["VIEW", "TRANSACT"]);
  await look(page, "token-created", looked);
  assert.equal(await server.asked(payouts), 200);
  await page.reload();
  await page.getByText("its secret was shown then").waitFor();
  assert(!(await page.content()).includes(payouts.clientSecret), "a page that is loaded again shows a secret");
  await page.goBack();
  assert(!(await page.content()).includes(payouts.clientSecret), "the page before shows a secret");

  // Looking for it: by typing where there is script, by the button where there is none; by what names it alone.
  const look_for = async (text) => {
    await page.locator("#q").fill(text);
    if (!script) await button(page, "Search").click();
  };
  await nav(page, "Tokens");
  await until("all tokens", async () => (await rows(page).count()) === 9);
  await look(page, "tokens", looked);
  await look_for("night");
  await until("one token", async () => (await rows(page).count()) === 1);
  await until("an address of the search", () => new URL(page.url()).searchParams.get("q") === "night");
  assert(await link(page, "Nightly payouts").isVisible());
  await look_for("nobody named it so");
  await page.getByText("No token is like that").waitFor();
  await look(page, "tokens-none", looked, false);
  await look_for("");
  await until("all tokens again", async () => (await rows(page).count()) === 9);
  await link(page, "Nightly payouts").click();
  await arrived(page, "Nightly payouts");
  const [address, id] = [page.url(), await page.locator("dd code").first().innerText()];
  for (const name of [id, payouts.clientId]) {
    await nav(page, "Tokens");
    await arrived(page, "Tokens");
    await look_for(name);
    await arrived(page, "Nightly payouts");
    assert.equal(page.url(), address);
  }
  const uses = async (page) => (await page.locator("figcaption strong").allInnerTexts())[0];
  await until("its first use", async () => (await page.reload(), (await uses(page)) === "1"));
  const watched = script ? await watch(context, address) : undefined;
  for (let used = 0; used < 40; used++) await server.asked(payouts);
  await watched?.(async (page) => (await uses(page)) === "41");
  await until("its use", async () => (await page.reload(), (await uses(page)) === "41"));
  await look(page, "token", looked);

  // Its end.
  await link(page, "End this token").click();
  await arrived(page, "End Nightly payouts?");
  await look(page, "token-end", looked);
  await button(page, "End this token").click();
  await said(page, "It has ended. No server accepts it any more.");
  assert.equal(await server.asked(payouts), 401);
  await look(page, "token-ended", looked, false);

  // Many together: those that were looked for, once somebody has typed how many they are.
  const old = [];
  for (const name of ["Old import", "Old export"]) old.push(await make_token(page, "Acme Payroll – sandbox", name, ["VIEW"]));
  await nav(page, "Tokens");
  await look_for("old ");
  await until("both of them", async () => (await rows(page).count()) === 2);
  await link(page, "End all of these together…").click();
  await arrived(page, "End these 2 tokens?");
  await look(page, "bulk-new", looked);
  await field(page, "How many are they?").fill("9");
  context.expected.add("409");
  await button(page, "End them").click();
  await said(page, "They are 2, and you typed 9.");
  context.expected.clear();
  for (const token of old) assert.equal(await server.asked(token), 200);
  await field(page, "How many are they?").fill("2");
  await button(page, "End them").click();
  await arrived(page, "2 tokens ended together");
  await until("it is over", async () => {
    if (!script) await page.reload();
    return (await page.locator("#progress").innerText()).includes("2 of 2 have ended. It is over");
  });
  for (const token of old) assert.equal(await server.asked(token), 401);
  await look(page, "bulk", looked);
  await link(page, "Ended together").click();
  await arrived(page, "Tokens ended together");
  await look(page, "bulk-list", looked, false);

  // A platform off and on.
  for (const [what, words, status] of [["Disable", "It is disabled.", 401], ["Enable", "It is enabled.", 200]]) {
    await nav(page, "Platforms");
    await link(page, `${what} Acme Payroll`).click();
    await arrived(page, `${what} Acme Payroll?`);
    if (what === "Disable") await look(page, "platform-disable", looked);
    await button(page, what).click();
    await said(page, words);
    assert.equal(await server.asked(halves[0]), status);
    if (what === "Disable") await look(page, "platforms-disabled", looked, false);
  }
  await nav(page, "Platforms");
  await look(page, "platforms", looked);

  // Another operator: invited, let in, of another role, out, in, and anew.
  const invite = async (name, role, of) => {
    await nav(page, "Operators");
    await field(page, "Name").fill(name);
    await field(page, "Role").selectOption(role);
    await field(page, "Of").selectOption({ label: of });
    await button(page, "Invite").click();
    await arrived(page, `${name} is invited`);
    return page.locator(".secret code").innerText();
  };
  const sams = await invite("sam@northwind.example", "manager", "Northwind Travel alone");
  await sent_again(page, sams);
  const lins = await invite("lin@example.com", "viewer", "All platforms");
  const invitation = await invite("grace@example.com", "viewer", "All platforms");
  await look(page, "operator-invited", looked);
  const theirs = await visit(browser, server, script, wrongs);
  const other = await theirs.newPage();
  await accept(other, "grace@example.com", invitation);
  assert.equal(await link(other, "Create a token").count(), 0);
  await nav(page, "Operators");
  await look(page, "operators", looked);
  await link(page, "grace@example.com").click();
  await arrived(page, "grace@example.com");
  await look(page, "operator", looked);
  await field(page, "Role").selectOption("manager");
  await button(page, "Give").click();
  await said(page, "It is changed, everywhere.");
  await other.goto("/console/tokens");
  assert(await link(other, "Create a token").isVisible());
  await button(page, "Disable").click();
  await button(page, "Enable").waitFor();
  await other.goto("/console/tokens");
  await arrived(other, "Sign in");
  await button(page, "Enable").click();
  await button(page, "Disable").waitFor();
  await button(page, "Reset").click();
  await arrived(page, "grace@example.com is invited");
  const anew = await page.locator(".secret code").innerText();
  assert.notEqual(anew, invitation);
  const codes_anew = await accept(other, "grace@example.com", anew);
  await button(other, "Sign out").click();
  await arrived(other, "Sign in");
  await theirs.close();

  // Another password: with the old one and a code, and every other browser is signed out.
  {
    const context = await visit(browser, server, script, wrongs);
    const own = await context.newPage();
    const codes = await accept(own, "sam@northwind.example", sams);
    const other = await another(browser, server, script, wrongs, context);
    await arrived(other.page, "sam@northwind.example");
    await own.goto("/console/account");
    await link(own, "Change your password").click();
    await arrived(own, "Change your password");
    await look(own, "account-password", looked);
    const fill = async (old, code) => {
      await own.locator("#old").fill(old);
      await own.locator("#code").fill(code);
      for (const field of ["#password", "#again"]) await own.locator(field).fill("several other words in a row");
      await button(own, "Change it").click();
    };
    context.expected.add("403");
    await fill("not the password at all", "000000");
    await said(own, "Nothing was changed.");
    context.expected.clear();
    await look(own, "account-password-refused", looked, false);
    await other.page.reload();
    await arrived(other.page, "sam@northwind.example");
    await fill(PASSWORD, codes.next());
    await said(own, "Your password is changed.");
    await look(own, "account-changed", looked, false);
    await own.reload();
    await arrived(own, "sam@northwind.example");
    await other.page.reload();
    await arrived(other.page, "Sign in");
    await other.close();
    await context.close();
  }
  // Another second factor, which counts when it has shown its first code.
  {
    const context = await visit(browser, server, script, wrongs);
    const own = await context.newPage();
    const codes = await accept(own, "lin@example.com", lins);
    const other = await another(browser, server, script, wrongs, context);
    await own.goto("/console/account");
    await link(own, "Replace your second factor").click();
    await arrived(own, "Replace your second factor");
    await look(own, "account-factor", looked);
    await own.locator("#password").fill(PASSWORD);
    await own.locator("#code").fill(codes.next());
    await button(own, "Show me another one").click();
    await arrived(own, "Your new second factor");
    await look(own, "account-factor-new", looked);
    const anew = await own.locator(".copyable code").innerText();
    context.expected.add("400");
    await own.locator("#code").fill("000000");
    await button(own, "Replace it").click();
    await said(own, "is its clock right?");
    context.expected.clear();
    assert.equal(await own.locator(".copyable code").innerText(), anew, "nobody scans twice");
    await other.page.reload();
    await arrived(other.page, "lin@example.com");
    await own.locator("#code").fill(new Codes(anew).next());
    await button(own, "Replace it").click();
    await said(own, "Your second factor is replaced.");
    await other.page.reload();
    await arrived(other.page, "Sign in");
    await other.close();
    await context.close();
  }

  // A token of one's own.
  await link(page, "ada@example.com").click();
  await field(page, "What for").fill("Deploy pipeline");
  await field(page, "For").selectOption({ label: "90 days" });
  await button(page, "Create").click();
  await arrived(page, "Deploy pipeline is there");
  await look(page, "account-token", looked);
  const own = await page.locator(".secret code").innerText();
  const asked = async () => (await fetch(server.admin + "/v1/operator", { headers: { authorization: `Bearer ${own}` } })).status;
  assert.equal(await asked(), 200);
  await sent_again(page, own);
  await link(page, "ada@example.com").click();
  await until("one token", async () => (await rows(page).count()) === 1);
  await look(page, "account", looked);
  await button(page, "End Deploy pipeline").click();
  await page.getByText(/^ended/).waitFor();
  assert.equal(await asked(), 401);

  // The audit log.
  await nav(page, "Audit log");
  await look(page, "audit", looked);
  await field(page, "What").selectOption("token.revoke");
  await button(page, "Search").click();
  await until("the revokes alone", async () => (await rows(page).count()) > 0 && (await page.locator("tbody td:nth-child(3)").allInnerTexts()).every((text) => text === "token.revoke"));
  await field(page, "Who").fill("operator:nobody");
  await button(page, "Search").click();
  await page.getByText("There is no such entry.").waitFor();
  await look(page, "audit-none", looked, false);

  // All of it, verified in parts, which follow each other by themselves where there is script; and taken away.
  await nav(page, "Audit log");
  await link(page, "Verify it").click();
  await said(page, "the last one: each is as it was sealed");
  await look(page, "audit-verified", looked);
  await page.goto("/console/audit/verify?limit=20");
  for (const on = page.locator("a[data-on]"); !script && (await on.count()); ) await on.click();
  await link(page, "From the beginning").waitFor();
  if (script) assert((await page.locator("#parts > *").count()) > 1, "there was one part only");
  await nav(page, "Audit log");
  const [taken] = await Promise.all([page.waitForEvent("download"), link(page, "Export all of it").click()]);
  const lines = (await readFile(await taken.path(), "utf8")).trimEnd().split("\n").map((line) => JSON.parse(line));
  assert(lines.length > 20 && lines.every((line, place) => line.seq === place + 1), "not all entries were exported");

  // Operations: none, then what one needs.
  await nav(page, "Operations");
  await page.getByText("None are loaded").waitFor();
  await look(page, "operations-empty", looked);
  const show = async (of, file) => {
    await link(page, of).click();
    await arrived(page, "Load operations");
    if (script) await page.locator("#file").setInputFiles(path.join(server.data, file));
    else await field(page, "Document").fill(await readFile(path.join(server.data, file), "utf8"));
    await until("the document is there", async () => (await field(page, "Document").inputValue()).includes("x-required-permissions"));
    await button(page, "Show what changes").click();
  };
  await link(page, "Load a document").click();
  await arrived(page, "Load operations");
  await look(page, "operations-load", looked);
  await field(page, "Document").fill("paths: {/a: {get: {x-required-permissions: [view]}}}");
  context.expected.add("400");
  await button(page, "Show what changes").click();
  await said(page, "must be a list of VIEW, TRANSACT and MANAGE");
  context.expected.clear();
  await nav(page, "Operations");
  await show("Load a document", "api.yaml");
  await arrived(page, "What changes");
  await button(page, "Load them").click();
  await said(page, "They are loaded. Every server goes by them.");
  await show("Load another document", "changed.yaml");
  await page.getByText("less than before").waitFor();
  await look(page, "operations-diff", looked);
  await link(page, "Leave it as it is").click();
  await arrived(page, "Operations");
  await field(page, "Path").fill("/v1/customers/42");
  await button(page, "What does it need?").click();
  await said(page, "VIEW: it is GET /v1/customers/{customerId}");
  await look(page, "operations", looked);
  await field(page, "Path").fill("/v1/elsewhere");
  await button(page, "What does it need?").click();
  await said(page, "nobody");
  await nav(page, "Keys");
  await arrived(page, "Keys");
  await look(page, "keys", looked);
  await nav(page, "Nodes");
  await until("it knows everything", async () => {
    await page.reload();
    return page.getByText("Knows everything").isVisible();
  });
  await look(page, "nodes", looked);
  await nav(page, "Settings");
  await page.getByText("flag --flush-interval").waitFor();
  await look(page, "settings", looked);
  context.expected.add("404");
  await page.goto("/console/tokens/Token:019542f5-b3e7-7d02-8000-000000000001");
  await arrived(page, "There is no such thing");
  await look(page, "not-found", looked, false);
  context.expected.clear();
  await page.goto("/console/");
  return { context, page, codes: codes_anew };
}

const API = `openapi: 3.1.0
info: { title: Payments, version: 1.0.0 }
paths:
  /v1/customers: { get: { x-required-permissions: [VIEW], responses: {} }, post: { x-required-permissions: [MANAGE], responses: {} } }
  /v1/customers/{customerId}: { get: { x-required-permissions: [VIEW], responses: {} } }
  /v1/quotes: { post: { x-required-permissions: [TRANSACT], responses: {} } }
  /v1/quotes/{quoteId}/execute: { post: { x-required-permissions: [TRANSACT], responses: {} } }
`;

const CHANGED = API.replace("[MANAGE]", "[TRANSACT, MANAGE]")
  .replace("  /v1/quotes: { post: { x-required-permissions: [TRANSACT]", "  /v1/quotes: { post: { x-required-permissions: [VIEW]")
  .replace("/v1/quotes/{quoteId}/execute", "/v1/payments");

/** Names that would be markup stand everywhere as they were written; a dialog fails the run. */
async function markup({ page }) {
  for (const name of ["<img src=x onerror=alert(1)>", '"><script>alert(1)</script>']) {
    await make_token(page, "Acme Payroll – production", name, ["VIEW"]);
    await link(page, "To the token").click();
    await arrived(page, name);
    await link(page, "End this token").click();
    await arrived(page, `End ${name}?`);
    await button(page, "End this token").click();
    await said(page, "It has ended.");
    await nav(page, "Tokens");
    await field(page, "Status").selectOption("all");
    await page.locator("#q").fill(name);
    await until("the one of that name", async () => (await rows(page).count()) === 1);
    await link(page, name).waitFor();
    await button(page, "Search").click();
    await link(page, name).waitFor();
    assert.equal(await page.locator("#q").inputValue(), name);
    await make_platform(page, name);
    await nav(page, "Platforms");
    await link(page, `Disable ${name}`).click();
    await arrived(page, `Disable ${name}?`);
    await link(page, "ada@example.com").click();
    await field(page, "What for").fill(name);
    await button(page, "Create").click();
    await arrived(page, `${name} is there`);
    for (const there of ["Audit log", "Operators", "Keys", "Nodes", "Settings", "Operations", "Tokens", "Platforms"]) await nav(page, there);
    await link(page, "ada@example.com").click();
    await button(page, `End ${name}`).waitFor();
    await page.goto("/console/operations?path=" + encodeURIComponent(name));
    await page.goto("/console/sign-in?to=" + encodeURIComponent(name));
    await page.goto("/console/");
  }
}

/** Nothing but a keyboard. */
async function keyboard(browser, server, wrongs, codes) {
  const context = await visit(browser, server, true, wrongs);
  const page = await context.newPage();
  const press = (key) => page.keyboard.press(key);
  const focused = () => page.evaluate(() => {
    const element = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    return {
      what: element.getAttribute("aria-label") || element.labels?.[0]?.innerText || element.innerText || element.tagName,
      seen: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
    };
  });
  /** Tab after Tab until something has the focus; whatever has it shows so. */
  const tab_to = async (what) => {
    for (let presses = 0; presses < 40; presses++) {
      const now = await focused();
      if (now.what.trim().startsWith(what)) return;
      await press("Tab");
      const next = await focused();
      if (next.what !== "BODY" && !next.seen) wrongs.push(`${page.url()}: nobody sees that ${next.what} has the focus`);
    }
    assert.fail(`no Tab leads to ${what}`);
  };
  await page.goto("/console/sign-in");
  await tab_to("Name");
  await page.keyboard.type("grace@example.com");
  await tab_to("Password");
  await page.keyboard.type(PASSWORD);
  await tab_to("Code");
  await page.keyboard.type(codes.next());
  await press("Enter");
  await arrived(page, "Tokens");

  // Past the navigation.
  await press("Tab");
  assert.equal((await focused()).what, "To the content");
  await press("Enter");
  await until("the content has the focus", () => page.evaluate(() => document.activeElement.id === "main"));
  await press("Tab");
  assert.equal((await focused()).what, "Create a token");
  // To the search, but not while somebody types.
  await press("/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "q");
  await press("/");
  assert.equal(await page.locator("#q").inputValue(), "/");

  await page.goto("/console/tokens");
  await tab_to("Create a token");
  await press("Enter");
  await arrived(page, "Create a token");
  await until("the name has the focus", () => page.evaluate(() => document.activeElement.id === "name"));
  await page.keyboard.type("By keyboard");
  await tab_to("VIEW");
  await press("Space");
  await tab_to("Create");
  await press("Space");
  await arrived(page, "By keyboard is there");
  const [made] = await shown(page);
  assert.equal(await server.asked(made), 200);

  // Copying.
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await tab_to("Copy");
  await press("Tab");
  await press("Enter");
  await until("it says so", async () => (await page.locator(".secret button").nth(1).innerText()) === "Copied");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), made.clientSecret);
  await context.close();
}

const wrongs = [];
const servers = [];
let browser;
try {
  if (pictures) {
    // The same letters wherever pictures are taken.
    await mkdir(PICTURES, { recursive: true });
    const fonts = path.join(root, "target/external/fonts.conf");
    const alias = (family, to) => `<match target="pattern"><test name="family"><string>${family}</string></test><edit name="family" mode="assign" binding="strong"><string>${to}</string></edit></match>`;
    await writeFile(fonts, `<?xml version="1.0"?><fontconfig><include>/etc/fonts/fonts.conf</include>${alias("system-ui", "Inter")}${alias("sans-serif", "Inter")}</fontconfig>`);
    process.env.FONTCONFIG_FILE = fonts;
  }
  const sandbox = process.getuid() === 0 ? ["--no-sandbox"] : [];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: sandbox });
  const looked = { wrongs, at: 0 };
  for (const script of [true, false]) {
    const server = await Server.start();
    servers.push(server);
    await writeFile(path.join(server.data, "api.yaml"), API);
    await writeFile(path.join(server.data, "changed.yaml"), CHANGED);
    const end = await flows(browser, server, script, wrongs, script ? looked : undefined);
    console.log(`every flow ${script ? "with" : "without"} script`);
    if (script) {
      await keyboard(browser, server, wrongs, end.codes);
      console.log("by keyboard alone");
      await markup(end);
      console.log("names that would be markup");
    }
    await end.context.close();
  }
  assert.deepEqual(wrongs, []);
  console.log(`console: OK, ${looked.at} looks at pages for accessibility, none with anything to say`);
} catch (error) {
  console.error(error);
  for (const wrong of wrongs) console.error(wrong);
  process.exitCode = 1;
} finally {
  await browser?.close();
  for (const server of servers) await server.stop();
}
