// A reporter for `node --test` that sums up a run in a line of JSON, for `tools/test.mjs`: after each test, since the end of the
// tests ends the process.

/** @param {AsyncIterable<{type: string, data: object}>} events */
export default async function* report(events) {
  const sum = { passed: 0, failed: 0, skipped: [], todo: [] };
  for await (const { type, data } of events) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    if (data.todo !== undefined && data.todo !== false) sum.todo.push(data.name);
    else if (data.skip !== undefined && data.skip !== false) sum.skipped.push(typeof data.skip === "string" && data.skip ? `${data.name}: ${data.skip}` : data.name);
    else if (type === "test:fail") sum.failed += 1;
    else if (data.details?.type !== "suite") sum.passed += 1;
    yield `${JSON.stringify(sum)}\n`;
  }
}
