// The text format of Prometheus, version 0.0.4, read strictly: what a server would guess at is an error here.
import assert from "node:assert/strict";

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/;
const TYPES = ["counter", "gauge", "histogram", "summary", "untyped"];
const NUMBER = /^(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]Inf|NaN)$/;

/**
 * @param {string} text
 * @returns {{families: Map<string, {type: string, help: string}>, samples: Map<string, number>, value(name: string, labels?: Record<string, string>): number | undefined}}
 */
export function parseExposition(text) {
  assert.ok(text.endsWith("\n"), "the last line ends");
  const families = new Map();
  const samples = new Map();
  let current;
  for (const line of text.slice(0, -1).split("\n")) {
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line);
    if (comment) {
      const [, kind, name, rest] = comment;
      assert.match(name, NAME);
      if (kind === "HELP") {
        assert.ok(!families.has(name), `${name} is described once`);
        families.set(name, { help: rest });
      } else {
        assert.ok(TYPES.includes(rest), line);
        assert.ok(families.get(name) && !families.get(name).type, `${name}: its type follows its help, once`);
        families.get(name).type = rest;
      }
      current = name;
      continue;
    }
    const sample = /^([^\s{]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    assert.ok(sample, `a sample: ${JSON.stringify(line)}`);
    const [, name, list = "", value] = sample;
    assert.match(name, NAME);
    assert.match(value, NUMBER);
    const { type } = families.get(current) ?? {};
    const suffixes = type === "histogram" ? ["_bucket", "_sum", "_count"] : [""];
    assert.ok(suffixes.some((suffix) => name === `${current}${suffix}`), `${name} stands among its family, ${current}`);
    const key = keyOf(name, labelsOf(list));
    assert.ok(!samples.has(key), `${key} is there once`);
    samples.set(key, Number(value.replace("Inf", "Infinity")));
  }
  for (const [name, { type }] of families) {
    assert.ok(type, `${name} has a type`);
    assert.ok([...samples.keys()].some((key) => key.startsWith(name)), `${name} has a sample`);
    if (type === "counter") assert.match(name, /_total$/);
    if (type === "histogram") checkHistogram(name, samples);
  }
  return { families, samples, value: (name, labels = {}) => samples.get(keyOf(name, labels)) };
}

function labelsOf(list) {
  const labels = {};
  for (let rest = list; rest !== ""; ) {
    const found = LABEL.exec(rest);
    assert.ok(found, `labels: ${list}`);
    assert.ok(!(found[1] in labels), `the label ${found[1]} is there once`);
    labels[found[1]] = found[2].replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
    rest = rest.slice(found[0].length);
  }
  return labels;
}

const keyOf = (name, labels) => `${name}${JSON.stringify(Object.entries(labels).sort(([one], [other]) => (one < other ? -1 : 1)))}`;

function checkHistogram(name, samples) {
  const buckets = [...samples].filter(([key]) => key.startsWith(`${name}_bucket`)).map(([key, count]) => [Number(/"le","([^"]+)"/.exec(key)[1].replace("Inf", "Infinity")), count]);
  assert.equal(buckets.at(-1)?.[0], Infinity, `${name} ends with +Inf`);
  buckets.reduce(([bound, count], next) => {
    assert.ok(next[0] > bound && next[1] >= count, `${name} grows from bucket to bucket`);
    return next;
  });
  assert.equal(buckets.at(-1)[1], samples.get(`${name}_count[]`), `${name} counts the same twice`);
}
