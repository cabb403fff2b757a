// A command line as words, the way the shell that it was copied for would make them. Nothing is run, and nothing expanded: what
// would be is refused, since nobody here knows what it comes to.

/** What a command line holds that is not understood, told to whoever pasted it. */
export class NotUnderstood extends Error {}

/**
 * @param {string} text
 * @returns {{ words: string[], rest: string }} the first command, and what follows it
 */
export function words(text) {
  return isForWindows(text) ? { words: windowsWords(text), rest: "" } : posixWords(text);
}

/** What browsers copy for `cmd.exe` has carets before quotation marks, or at the ends of lines: where no other shell would quote them. */
function isForWindows(text) {
  const unquoted = text.replace(/\\[^]|\$'(?:\\[^]|[^'\\])*'|'[^']*'|"(?:\\[^]|[^"\\])*"/g, (quoted) => quoted[0]);
  return /\^["\r\n]|\^$/.test(unquoted) || /^\s*curl\.exe\b/i.test(text);
}

const OPERATORS = /[|&;\n]/;

/**
 * By the rules of POSIX (2.2, Quoting), and `$'…'`, which browsers use.
 * @param {string} text
 */
export function posixWords(text) {
  const all = [];
  /** @type {string | undefined} the word so far; an empty one is one, too */
  let word;
  let at = 0;
  const end = () => {
    if (word !== undefined) all.push(word);
    word = undefined;
  };
  while (at < text.length) {
    const rest = text.slice(at);
    const one = text[at];
    if (/^\\\r?\n/.test(rest)) {
      at += rest.indexOf("\n") + 1;
    } else if (/[ \t\r]/.test(one)) {
      end();
      at += 1;
    } else if (OPERATORS.test(one)) {
      end();
      if (all.length > 0) return { words: all, rest: rest.trim() };
      at += 1;
    } else if (one === "#" && word === undefined) {
      at += /^[^\n]*/.exec(rest)[0].length;
    } else if (/[<>(){]/.test(one)) {
      throw new NotUnderstood(`“${one}” outside quotation marks`);
    } else {
      const [piece, length] = posixPiece(rest);
      word = (word ?? "") + piece;
      at += length;
    }
  }
  end();
  return { words: all, rest: "" };
}

/**
 * The next piece of a word, and how long it is in the text.
 * @param {string} rest
 * @returns {[string, number]}
 */
function posixPiece(rest) {
  switch (rest[0]) {
    case "'": {
      const close = rest.indexOf("'", 1);
      if (close < 0) throw new NotUnderstood("a ' that is not closed");
      return [rest.slice(1, close), close + 1];
    }
    case '"':
      return doubleQuoted(rest, 1);
    case "\\":
      if (rest.length === 1) throw new NotUnderstood("a \\ with nothing after it");
      return [rest[1], 2];
    case "$":
      if (rest[1] === "'") return ansiQuoted(rest);
      if (rest[1] === '"') return doubleQuoted(rest, 2);
      refuseExpansion(rest);
      return ["$", 1];
    case "`":
      throw new NotUnderstood("a command within ` `, which is not run here");
    default: {
      const plain = /^[^ \t\r\n'"\\$`{|&;<>()]+/.exec(rest)[0];
      return [plain, plain.length];
    }
  }
}

/** @param {string} rest beginning with a dollar sign */
function refuseExpansion(rest) {
  if (/^\$\\\r?\n/.test(rest)) throw new NotUnderstood("a $ at the end of a line");
  const expansion = /^\$(\w+|\{[^}]*\}?|\(|[@*#?$!-])/.exec(rest)?.[0];
  if (expansion) throw new NotUnderstood(`${expansion}, whose value is not known here: put the value in its place`);
}

/**
 * @param {string} rest
 * @param {number} at after the opening mark
 * @returns {[string, number]}
 */
function doubleQuoted(rest, at) {
  let text = "";
  while (rest[at] !== '"') {
    if (at >= rest.length) throw new NotUnderstood('a " that is not closed');
    if (rest[at] === "`") throw new NotUnderstood("a command within ` `, which is not run here");
    if (rest[at] === "$") refuseExpansion(rest.slice(at));
    const escape = /^\\(\r?\n|[\\"$`])/.exec(rest.slice(at, at + 3));
    text += escape ? escape[1].trim() : rest[at];
    at += escape ? escape[0].length : 1;
  }
  return [text, at + 1];
}

const ESCAPES = { a: "\x07", b: "\b", e: "\x1b", E: "\x1b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v", "\\": "\\", "'": "'", '"': '"', "?": "?" };

/**
 * `$'…'`. Escapes of bytes are those of UTF-8.
 * @param {string} rest
 * @returns {[string, number]}
 */
function ansiQuoted(rest) {
  const bytes = [];
  const encoder = new TextEncoder();
  const encode = (text) => bytes.push(...encoder.encode(text));
  let at = 2;
  while (rest[at] !== "'") {
    if (at >= rest.length) throw new NotUnderstood("a $' that is not closed");
    const [all, , octal, hex, unicode, plain] = /^(\\(?:([0-7]{1,3})|x([\da-f]{1,2})|(?:u([\da-f]{1,4})|U[\da-f]{1,8})|([abeEfnrtv\\'"?])))/i.exec(rest.slice(at, at + 10)) ?? [];
    if (all === undefined) encode(rest.codePointAt(at) > 0xffff ? rest.slice(at, at + 2) : rest[at]);
    else if (octal ?? hex) bytes.push(Number.parseInt(octal ?? hex, octal ? 8 : 16) & 0xff);
    else if (plain && plain in ESCAPES) encode(ESCAPES[plain]);
    else if (unicode ?? all.startsWith("\\U")) at += surrogate(rest, at, all, encode);
    else throw new NotUnderstood(`${all} within $' '`);
    at += all?.length ?? (rest.codePointAt(at) > 0xffff ? 2 : 1);
  }
  if (bytes.includes(0)) throw new NotUnderstood("a NUL within $' '");
  return [new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes)), at + 1];
}

/** Browsers write a character beyond the first plane as two escapes. Gives the length of the second. */
function surrogate(rest, at, first, encode) {
  const code = Number.parseInt(first.slice(2), 16);
  const second = /^\\u(d[c-f][\da-f]{2})/i.exec(rest.slice(at + first.length));
  if (code >= 0xd800 && code < 0xdc00 && second) {
    encode(String.fromCharCode(code, Number.parseInt(second[1], 16)));
    return second[0].length;
  }
  if (code > 0x10ffff) throw new NotUnderstood(`${first} within $' '`);
  encode(String.fromCodePoint(code));
  return 0;
}

/**
 * Twice, as Windows does: `cmd.exe` takes its carets, and then the program takes its quotation marks.
 * @param {string} text
 */
function windowsWords(text) {
  return programWords(withoutCarets(text));
}

/** Between quotation marks without a caret before them, carets stand for themselves. */
function withoutCarets(text) {
  let line = "";
  let isQuoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const one = text[at];
    if (one === "^" && !isQuoted) {
      // A line end after a caret is nothing, and what comes after it stands for itself.
      const lineEnd = /^\r?\n/.exec(text.slice(at + 1))?.[0].length ?? 0;
      at += lineEnd + 1;
      if (lineEnd > 0 && text[at] === "\r" && text[at + 1] === "\n") at += 1;
      line += text[at] ?? "";
      continue;
    }
    if (one === '"') isQuoted = !isQuoted;
    if (!isQuoted && /[|&<>]/.test(one)) throw new NotUnderstood(`“${one}” outside quotation marks`);
    if (!isQuoted && one === "\n" && line.trim() !== "") {
      if (text.slice(at).trim() !== "") throw new NotUnderstood("more than one line, without a ^ at the end of the first");
      break;
    }
    line += one;
  }
  return line;
}

/** As programs of Microsoft's C library read their command line. */
function programWords(line) {
  const all = [];
  let word;
  let isQuoted = false;
  for (let at = 0; at < line.length; at += 1) {
    const slashes = /^(\\+)"/.exec(line.slice(at))?.[1].length ?? 0;
    if (slashes > 0) {
      word = (word ?? "") + "\\".repeat(Math.floor(slashes / 2));
      at += slashes;
      if (slashes % 2 === 1) {
        word += '"';
        continue;
      }
    }
    const one = line[at];
    if (one === '"') {
      word ??= "";
      if (isQuoted && line[at + 1] === '"') {
        word += '"';
        at += 1;
      } else {
        isQuoted = !isQuoted;
      }
    } else if (/[ \t\r\n]/.test(one) && !isQuoted) {
      if (word !== undefined) all.push(word);
      word = undefined;
    } else {
      word = (word ?? "") + one;
    }
  }
  if (isQuoted) throw new NotUnderstood('a " that is not closed');
  if (word !== undefined) all.push(word);
  return all;
}
