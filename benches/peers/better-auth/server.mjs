// The peer: better-auth's API keys on SQLite, behind node's own HTTP server, as durable as Countersign (WAL, FULL)
// unless SYNCHRONOUS says less.
//
// Usage: node server.mjs DATABASE USERS KEYS_PER_USER [SYNCHRONOUS]
//
// Fills DATABASE on first use, writes one session cookie a user to DATABASE.cookies and all keys to DATABASE.keys, and
// prints the port it listens on. Rate limits, telemetry and the log are off. Create and verify are the plugin's
// server-side calls, which need no session: the cheapest way that it has. Verify answers an empty 200 or 401. Its list
// and its delete need a session, so they have one, believed from the signed cookie without a read.

import { createHash, createHmac, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";

import { apiKey } from "@better-auth/api-key";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import Database from "better-sqlite3";

const [file, users, keysPerUser] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const synchronous = process.argv[5] ?? "FULL";
const secret = "a-secret-for-benchmarks-only-0123456789";
const database = new Database(file);
database.pragma("journal_mode = WAL");
database.pragma(`synchronous = ${synchronous}`);

const auth = betterAuth({
  baseURL: "http://127.0.0.1",
  secret,
  database,
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  logger: { disabled: true },
  session: { cookieCache: { enabled: true, maxAge: 24 * 60 * 60 } },
  plugins: [apiKey({ rateLimit: { enabled: false } })],
});

/** One row made by better-auth itself, copied with keys of its own: the same rows as if each had been made. */
async function seed() {
  await (await getMigrations(auth.options)).runMigrations();
  const { internalAdapter } = await auth.$context;
  const ids = [];
  for (let i = 0; i < users; i += 1) {
    const user = await internalAdapter.createUser({ email: `user-${i}@example.com`, name: `User ${i}`, emailVerified: true });
    await internalAdapter.createSession(user.id);
    ids.push(user.id);
  }
  const { id, key: first } = await auth.api.createApiKey({ body: { userId: ids[0], name: "token" } });
  const keys = [first];
  const row = database.prepare("SELECT * FROM apikey WHERE id = ?").get(id);
  const columns = Object.keys(row);
  const insert = database.prepare(`INSERT INTO apikey (${columns.map((name) => `"${name}"`)}) VALUES (${columns.map((name) => `@${name}`)})`);
  database.transaction(() => {
    for (const referenceId of ids) {
      for (let i = referenceId === ids[0] ? 1 : 0; i < keysPerUser; i += 1) {
        const key = randomBytes(48).toString("base64url");
        keys.push(key);
        insert.run({ ...row, id: randomBytes(16).toString("base64url"), key: createHash("sha256").update(key).digest("base64url"), referenceId });
      }
    }
  })();
  writeFileSync(`${file}.keys`, keys.join("\n"));
}

/** The cookies of a session, the cached one included, as better-auth sets them. */
async function cookies(token) {
  const signed = `${token}.${createHmac("sha256", secret).update(token).digest("base64")}`;
  const cookie = `better-auth.session_token=${encodeURIComponent(signed)}`;
  const response = await auth.api.getSession({ headers: new Headers({ cookie }), asResponse: true });
  const set = response.headers.getSetCookie().map((line) => line.split(";")[0]);
  return [cookie, ...set.filter((pair) => !pair.startsWith("better-auth.session_token="))].join("; ");
}

if (!database.prepare("SELECT 1 FROM sqlite_master WHERE name = 'apikey'").get()) await seed();
const sessions = database.prepare("SELECT token, userId FROM session").all();
const lines = [];
for (const { token, userId } of sessions) lines.push(`${userId} ${await cookies(token)}`);
writeFileSync(`${file}.cookies`, lines.join("\n"));

function answer(response, body) {
  const text = Buffer.from(JSON.stringify(body));
  response.writeHead(200, { "content-type": "application/json", "content-length": text.length }).end(text);
}

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString());
}

const server = createServer(async (request, response) => {
  try {
    const key = request.headers["x-api-key"];
    if (key) {
      const { valid } = await auth.api.verifyApiKey({ body: { key } });
      response.writeHead(valid ? 200 : 401, { "content-length": 0 }).end();
    } else if (request.method === "POST") answer(response, await auth.api.createApiKey({ body: await body(request) }));
    else {
      const headers = new Headers({ cookie: request.headers.cookie });
      if (request.method === "DELETE") answer(response, await auth.api.deleteApiKey({ body: await body(request), headers }));
      else answer(response, await auth.api.listApiKeys({ headers }));
    }
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
});
server.keepAliveTimeout = 600_000;
server.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
