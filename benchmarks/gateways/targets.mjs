// What is aimed at, and whether it was reached.
import { ratio, spread } from "./statistics.mjs";

const OURS = "nodetool-auth";

/** Each names two rows as `scenario/row` and what is compared; `least` or `most` is the bound of the first over the second. */
const RATIOS = [
  { name: "static, requests/s beside HAProxy", key: "rate", of: `static/${OURS}`, over: "static/HAProxy", least: 1 },
  { name: "static, requests/s beside nginx", key: "rate", of: `static/${OURS}`, over: "static/nginx", least: 1 },
  { name: "static, CPU beside HAProxy", key: "cpu", of: `static/${OURS}`, over: "static/HAProxy", most: 1 },
  { name: "static, CPU beside nginx", key: "cpu", of: `static/${OURS}`, over: "static/nginx", most: 1 },
  { name: "static, requests/s beside our pass-through", key: "rate", of: `static/${OURS}`, over: `pass/${OURS}`, least: 0.95 },
  { name: "ES256 repeated, CPU beside our static", key: "cpu", of: `ES256-repeated/${OURS}, cache`, over: `static/${OURS}`, most: 1.1 },
  { name: "ES256 repeated, requests/s beside Envoy with its cache", key: "rate", of: `ES256-repeated/${OURS}, cache`, over: "ES256-repeated/Envoy, jwt_cache", least: 3.5 },
  { name: "ES256 repeated, requests/s beside HAProxy", key: "rate", of: `ES256-repeated/${OURS}, cache`, over: "ES256-repeated/HAProxy", least: 7 },
  { name: "ES256 fresh, requests/s beside HAProxy", key: "rate", of: `ES256-fresh/${OURS}`, over: "ES256-fresh/HAProxy", least: 1.3 },
  { name: "RS256 fresh, requests/s beside HAProxy", key: "rate", of: `RS256-fresh/${OURS}`, over: "RS256-fresh/HAProxy", least: 1.5 },
  { name: "HS256 fresh, requests/s beside HAProxy", key: "rate", of: `HS256-fresh/${OURS}`, over: "HS256-fresh/HAProxy", least: 1.6 },
  { name: "in front, requests/s beside nginx asking `/.auth/verify`", key: "rate", of: `ask/${OURS}, in front itself`, over: `ask/nginx, asking ${OURS}`, least: 1.5 },
  { name: "`/.auth/verify`, static, requests/s beside hyper alone", key: "rate", of: `verify/${OURS}, static`, over: "verify/hyper alone, static", least: 0.9 },
  { name: "`/.auth/verify`, ES256 repeated, requests/s beside hyper alone", key: "rate", of: `verify/${OURS}, ES256 repeated`, over: "verify/hyper alone, ES256 repeated", least: 0.9 },
  { name: "p50 at one connection beside HAProxy", key: "p50", of: `static-1/${OURS}`, over: "static-1/HAProxy", most: 1 },
  { name: "p99 at 64 connections beside HAProxy", key: "p99", of: `static/${OURS}`, over: "static/HAProxy", most: 1 },
];

const FOOTPRINTS = [
  { name: "memory at rest", key: "rest", most: 15, unit: "MB" },
  { name: "memory under load", key: "busy", most: 25, unit: "MB" },
  { name: "memory for an idle connection", key: "idle", most: 10, unit: "KB" },
  { name: "start to first answer", key: "start", most: 30, unit: "ms" },
];

/** Only those of which everything was measured. */
export function judgeTargets({ scenarios, footprints }) {
  const rows = new Map(scenarios.flatMap(({ id, rows }) => rows.map((row) => [`${id}/${row.name}`, row])));
  const values = (name, key) => rows.get(name)?.results.map((result) => result[key]);
  const ratios = RATIOS.flatMap(({ name, key, of, over, least, most }) => {
    const [these, those] = [values(of, key), values(over, key)];
    if (!these || !those) return [];
    const found = ratio(these, those);
    const show = (value) => value.toFixed(2);
    return [{ name, wanted: bound(least, most, (value) => `${Number(show(value))}×`), found: `${show(found.median)}× (${show(found.low)} to ${show(found.high)})`, verdict: judge(found, least, most) }];
  });
  const own = footprints.find(({ name }) => name === OURS);
  const takes = FOOTPRINTS.flatMap(({ name, key, most, unit }) => {
    const found = own?.[key] === undefined ? undefined : spread([own[key]].flat());
    return found ? [{ name, wanted: `≤ ${most} ${unit}`, found: `${found.median.toFixed(1)} ${unit}`, verdict: judge(found, undefined, most) }] : [];
  });
  return [...ratios, ...takes];
}

const bound = (least, most, show) => (least === undefined ? `≤ ${show(most)}` : `≥ ${show(least)}`);

function judge({ median, low, high }, least = -Infinity, most = Infinity) {
  const isMet = median >= least && median <= most;
  // One round has no noise to tell from.
  if (low === high) return `${isMet ? "met" : "**missed**"}, in one round only`;
  const isClear = isMet ? low >= least && high <= most : high < least || low > most;
  return `${isMet ? "met" : "**missed**"}${isClear ? "" : ", within noise"}`;
}
