// Commands as the page reads them, beside the shell that would split them and the curl that would send them.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createServer } from "node:net";
import test from "node:test";

import { NotUnderstood, parseCurl } from "../../playground/curl.js";
import { posixWords, words } from "../../playground/shell.js";
import { chance, seed } from "../http/support/random.mjs";

const has = (command) => spawnSync(command, ["--version"]).status === 0;
const withoutBash = has("bash") ? false : "there is no bash here";
const withoutCurl = has("curl") ? false : "there is no curl here";

const refused = (command, why) => assert.throws(() => parseCurl(command), (error) => error instanceof NotUnderstood && why.test(error.message), command);

test("what people paste", () => {
  const cases = [
    ["curl http://api.test/v1/models", { method: "GET", scheme: "http", target: "/v1/models", headers: [["Host", "api.test"]] }],
    ["$ curl https://api.test", { scheme: "https", target: "/" }],
    ["curl api.test:8000?a=1#x", { scheme: "http", target: "/?a=1", headers: [["Host", "api.test:8000"]] }],
    ["curl https://api.test:443/", { headers: [["Host", "api.test"]] }],
    [`curl -H 'Authorization: Bearer abc' -H "X-A: b\\"c" api.test`, { headers: [["Host", "api.test"], ["Authorization", "Bearer abc"], ["X-A", 'b"c']] }],
    ["curl --header=A:1 --request=PUT --url=http://api.test/x", { method: "PUT", target: "/x", headers: [["Host", "api.test"], ["A", "1"]] }],
    ["curl \\\n  -X POST \\\n  -sSL \\\r\n  http://api.test/x", { method: "POST", target: "/x" }],
    ["curl -sXDELETE -HA:1 http://api.test/x", { method: "DELETE", headers: [["Host", "api.test"], ["A", "1"]] }],
    ["curl -d a=1 -d b=2 http://api.test/", { method: "POST", hasBody: true, headers: [["Host", "api.test"], ["Content-Type", "application/x-www-form-urlencoded"], ["Content-Length", "7"]] }],
    ["curl -G -d a=1 --data-urlencode 'b=c d&é' http://api.test/x?y", { method: "GET", hasBody: false, target: "/x?y&a=1&b=c+d%26%C3%A9" }],
    [`curl --json '{"a":"é"}' http://api.test/`, { method: "POST", headers: [["Host", "api.test"], ["Accept", "application/json"], ["Content-Type", "application/json"], ["Content-Length", "10"]] }],
    ["curl -T file http://api.test/", { method: "PUT", hasBody: true }],
    ["curl -d @file http://api.test/", { method: "POST", hasBody: true, headers: [["Host", "api.test"], ["Content-Type", "application/x-www-form-urlencoded"]] }],
    ["curl -I http://api.test/", { method: "HEAD" }],
    ["curl -u user:pass http://api.test/", { headers: [["Host", "api.test"], ["Authorization", "Basic dXNlcjpwYXNz"]] }],
    ["curl http://user:p%40ss@api.test/", { headers: [["Host", "api.test"], ["Authorization", "Basic dXNlcjpwQHNz"]] }],
    ["curl --oauth2-bearer abc http://api.test/", { headers: [["Host", "api.test"], ["Authorization", "Bearer abc"]] }],
    ["curl -b a=1 -A me -e http://x.test http://api.test/", { headers: [["Host", "api.test"], ["Cookie", "a=1"], ["User-Agent", "me"], ["Referer", "http://x.test"]] }],
    ["curl -H 'Host: other' -H 'A;' -H 'B:' http://api.test/", { headers: [["Host", "other"], ["A", ""]] }],
    ["curl wss://api.test/ws", { scheme: "https", headers: [["Host", "api.test"], ["Connection", "Upgrade"], ["Upgrade", "websocket"], ["Sec-WebSocket-Version", "13"]] }],
    ["curl --request-target '/x/../y' http://api.test/", { target: "/x/../y" }],
    ["curl $'http://api.test/\\u00e9\\ud83d\\ude00' -H $'A: it\\'s\\x21'", { target: "/%C3%A9%F0%9F%98%80", headers: [["Host", "api.test"], ["A", "it's!"]] }],
  ];
  for (const [command, expected] of cases) {
    const got = parseCurl(command);
    for (const [name, value] of Object.entries(expected)) assert.deepEqual(got[name], value, `${command}: ${name}`);
  }
});

test("dot segments go, as curl takes them away, unless it is told not to", () => {
  const plain = parseCurl("curl http://api.test/health/../admin");
  assert.equal(plain.target, "/admin");
  assert.match(plain.notes.join(), /--path-as-is/);
  const raw = parseCurl("curl --path-as-is http://api.test/health/../admin");
  assert.deepEqual([raw.target, raw.notes], ["/health/../admin", []]);
  assert.equal(parseCurl("curl http://api.test/health/..%2fadmin").target, "/health/..%2fadmin");
});

test("what browsers copy for Windows", () => {
  const command = ['curl ^"https://api.test/v1/a?b=c^&d=^%^20e^" ^', '  -H ^"accept: */*^" ^', '  -H ^"x-quoted: ^\\^"a b^\\^" c:^\\d^" ^', '  --data-raw ^"^{^\\^"a^\\^":1^}^" ^', "  --compressed"].join("\r\n");
  const got = parseCurl(command);
  assert.deepEqual([got.method, got.target], ["POST", "/v1/a?b=c&d=%20e"]);
  assert.deepEqual(got.headers.slice(-2), [["accept", "*/*"], ["x-quoted", '"a b" c:\\d']]);
  assert.equal(got.headers.find(([name]) => name === "Content-Length")[1], "7");
});

test("what is not understood is named", () => {
  refused("", /^nothing$/);
  refused("wget http://api.test", /“wget”.*begin with curl/);
  refused("curl", /without a URL/);
  refused("curl --frobnicate http://api.test", /--frobnicate/);
  refused("curl -y http://api.test", /the option -y/);
  refused("curl http://api.test -H", /-H without a value/);
  refused("curl -H nonsense http://api.test", /a header without a colon: nonsense/);
  refused("curl http://a.test http://b.test", /a second URL, http:\/\/b\.test/);
  refused("curl ftp://api.test/", /ftp:\/\/, which is not HTTP/);
  refused("curl 'http://api.test/a b'", /blank/);
  refused("curl 'http://api.test/{a,b}'", /globoff/);
  refused('curl -H "Authorization: Bearer $TOKEN" http://api.test', /\$TOKEN, whose value/);
  refused("curl -H \"A: $(date)\" http://api.test", /\$\(/);
  refused("curl -H \"A: `date`\" http://api.test", /command within/);
  refused("curl 'http://api.test", /' that is not closed/);
  refused('curl "http://api.test', /" that is not closed/);
  refused("curl http://api.test/{a,b}", /“{”/);
  refused("curl http://api.test > file", /“>”/);
  refused("curl -H @file http://api.test", /headers from a file/);
  assert.match(parseCurl("curl http://api.test | jq .").notes.join(), /left out: \| jq \./);
});

const SIGNS = ["a", "b c", "'", '"', "\\", "\\\\", "$x", "$", "`", "!", "*", "?", "#", "~", "=", ";", "|", "&", "<", "(", "{a,b}", "{", "}", "%", "^", "é", "😀", "\t", "\n", "\r\n", "\\n", "\\x41", "--", "-", "@", ":", "/", "\u00a0"];

const quotes = {
  single: (text) => `'${text.replaceAll("'", "'\\''")}'`,
  double: (text) => `"${text.replace(/[\\"$`]/g, "\\$&")}"`,
  /** As Chromium does it. */
  ansi: (text) => `$'${text.replace(/[\\']/g, "\\$&").replaceAll("\n", "\\n").replaceAll("\r", "\\r").replace(/[^\x20-\x7e]|!/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`)}'`,
  /** As Chromium does it for `cmd.exe`. */
  windows: (text) => `^"${text.replace(/\\(?=\\*("|$))/g, "\\\\").replaceAll('"', '\\"').replace(/[^a-zA-Z0-9\s_\-:=+~'/.',?;()*`]/g, "^$&").replace(/%(?=[a-zA-Z0-9_])/g, "%^").replace(/\r?\n/g, "^\n\n")}^"`,
};

/** Chance, which tells how it is repeated. */
function random(t) {
  const from = seed();
  t.diagnostic(`NODETOOL_TEST_SEED=${from}`);
  const { below, one } = chance(from);
  return { one, between: (least, most) => least + below(most - least + 1) };
}

test("words survive every way to quote them", (t) => {
  const { one, between } = random(t);
  for (let round = 0; round < 4000; round += 1) {
    const all = Array.from({ length: between(1, 4) }, () => Array.from({ length: between(0, 6) }, () => one(SIGNS)).join(""));
    // A whole pair of surrogates is two escapes; lone ones there are none.
    for (const [kind, quote] of Object.entries(quotes)) {
      const expected = kind === "windows" ? all.map((word) => word.replaceAll("\r\n", "\n")) : all;
      const line = ["curl", ...all.map(quote)].join(kind === "windows" ? " ^\r\n " : " \\\n ");
      assert.deepEqual(words(line).words, ["curl", ...expected], `${kind}: ${JSON.stringify(line)}`);
    }
  }
});

test("whatever is understood, bash understands in the same way", { skip: withoutBash }, (t) => {
  const { one, between } = random(t);
  const pieces = [...SIGNS.filter((sign) => !/[;|&\n]/.test(sign)), "'a b'", '"c d"', "$'\\t\\x41\\101'", '"\\$"', "\\ ", "\\\n", " ", " "];
  const lines = [];
  while (lines.length < 1500) {
    const line = `x${Array.from({ length: between(1, 9) }, () => one(pieces)).join("")}`;
    try {
      const { words: all, rest } = posixWords(line);
      // What follows a comment's line is another command.
      if (rest === "") lines.push([line, all]);
    } catch (error) {
      assert.ok(error instanceof NotUnderstood, line);
    }
  }
  // One shell for all, since it takes longer to start than to split.
  const script = lines.map(([line]) => `printf '%s\\0' _ ${line}\nprintf '\\0'`).join("\n");
  const { stdout, status, stderr } = spawnSync("bash", ["-f", "-c", script], { encoding: "utf8", env: { PATH: process.env.PATH, HOME: "~", LC_ALL: "C.UTF-8" }, maxBuffer: 1 << 26 });
  assert.equal(status, 0, stderr);
  let at = 0;
  const fields = stdout.split("\0");
  for (const [line, ours] of lines) {
    assert.equal(fields[at], "_", line);
    const theirs = fields.slice(at + 1, at + 1 + ours.length);
    assert.deepEqual(ours, theirs, JSON.stringify(line));
    at += ours.length + 1;
    assert.equal(fields[at], "", `bash makes more words of ${JSON.stringify(line)}`);
    at += 1;
  }
});

test("curl sends what was understood", { skip: withoutCurl }, async (t) => {
  const heads = [];
  const server = createServer((socket) => {
    let text = "";
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1");
      if (!text.includes("\r\n\r\n") || socket.writableEnded) return;
      heads.push(text.slice(0, text.indexOf("\r\n\r\n")));
      socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const base = `http://127.0.0.1:${server.address().port}`;
  // `curl` says these of itself, and the page does not.
  const own = new Set(["user-agent", "accept"]);
  for (const rest of [
    `${base}`,
    `${base}/a/./b/../c?x=/../y`,
    `--path-as-is ${base}/a/./b/../c`,
    `${base}/health/..%2fadmin//x;y=1`,
    `-X PURGE -H 'X-A:  b ' -H 'X-Empty;' -H 'Host: other.test' ${base}/`,
    `-d a=1 -d 'b=c d' ${base}/form`,
    `--data-raw '@x' ${base}/`,
    `-G --data-urlencode 'q=a b&c/é' -d z ${base}/search?x=1`,
    `--data-urlencode "it's=(1)*!~" ${base}/`,
    `-I ${base}/head`,
    `-u 'user:pä' ${base}/`,
    `--oauth2-bearer tok ${base}/`,
    `--json '{"a":1}' ${base}/`,
    `-b 'a=1; b=2' -e http://x.test/ -r 0-9 ${base}/`,
    `--request-target '*' -X OPTIONS ${base}/`,
    `${base.replace("http://", "http://u%40:p@")}/userinfo`,
  ]) {
    const command = `curl -sS -m 5 ${rest}`;
    const before = heads.length;
    const child = spawn("bash", ["-c", command], { stdio: ["ignore", "ignore", "pipe"] });
    let errors = "";
    child.stderr.on("data", (chunk) => (errors += chunk));
    assert.equal(await new Promise((resolve) => child.on("close", resolve)), 0, `${command}: ${errors}`);
    assert.equal(heads.length, before + 1, command);
    const [first, ...lines] = Buffer.from(heads.at(-1), "latin1").toString("utf8").split("\r\n");
    const sent = lines.map((line) => /^([^:]*):\s*(.*?)\s*$/.exec(line).slice(1));
    const named = (headers) => headers.map(([name, value]) => [name.toLowerCase(), value]).sort().filter(([name, value]) => !own.has(name) || value === "application/json");
    const got = parseCurl(command);
    // Versions of curl differ in the case of the escapes that they make.
    const upper = (text) => text.replace(/%[\da-f]{2}/gi, (escape) => escape.toUpperCase());
    assert.equal(upper(`${got.method} ${got.target} HTTP/1.1`), upper(first), command);
    assert.deepEqual(named(got.headers), named(sent), command);
  }
});
