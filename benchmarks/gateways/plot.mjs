// Plots as small hand-written SVG: a dot for each median and a line from the lowest round to the highest, on a logarithmic axis.
import { spread } from "./statistics.mjs";

const WIDTH = 860;
const LABELS = 250;
const RIGHT = 84;
const ROW = 20;

/** By peer, so that each looks the same everywhere. Both sets keep their contrast on the page that they are for. */
const COLORS = { "nodetool-auth": ["#c2410c", "#fb923c"], nginx: ["#15803d", "#4ade80"], HAProxy: ["#1d4ed8", "#60a5fa"], Envoy: ["#a21caf", "#e879f9"], FastAPI: ["#475569", "#94a3b8"] };
const OTHER = ["#525252", "#a3a3a3"];
const classOf = (peer) => (peer in COLORS ? peer.toLowerCase() : "other");

const STYLE = [
  "text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-size:16px;font-weight:600}.group{font-weight:600}.value{font-size:12px}.tick,.note{font-size:11px;fill:#59636e}",
  ".grid{stroke:#d1d9e0;stroke-width:1}.own{font-weight:600}.range{stroke-width:3;stroke-linecap:round;opacity:.45}",
  ...[...Object.entries(COLORS), ["other", OTHER]].map(([peer, [light]]) => `.${classOf(peer)}{stroke:${light};fill:${light}}`),
  "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.tick,.note{fill:#9198a1}.grid{stroke:#3d444d}",
  ...[...Object.entries(COLORS), ["other", OTHER]].map(([peer, [, dark]]) => `.${classOf(peer)}{stroke:${dark};fill:${dark}}`),
  "}",
].join("");

const escape = (text) => text.replaceAll("`", "").replaceAll("&", "&amp;").replaceAll("<", "&lt;");

function digits(value) {
  if (value >= 1000) return Math.round(value).toLocaleString("en");
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** `groups`: `{title, rows: [{name, peer, values}]}`. */
function plot(title, note, groups) {
  const filled = groups.map(({ title, rows }) => ({ title, rows: rows.flatMap(({ name, peer, values }) => (spread(values) ? [{ name, peer, ...spread(values) }] : [])) })).filter(({ rows }) => rows.length > 0);
  const all = filled.flatMap(({ rows }) => rows);
  if (all.length === 0) return undefined;
  const [least, most] = [Math.min(...all.map(({ low }) => low)), Math.max(...all.map(({ high }) => high))].map(Math.log10);
  const from = Math.floor(least * 2) / 2;
  const to = Math.ceil(most * 2) / 2;
  const x = (value) => LABELS + ((Math.log10(value) - from) / (to - from || 1)) * (WIDTH - LABELS - RIGHT);

  const parts = [];
  let y = 56;
  const top = y;
  for (const { title, rows } of filled) {
    y += 26;
    parts.push(`<text class="group" x="12" y="${y}">${escape(title)}</text>`);
    for (const { name, peer, median, low, high } of rows) {
      y += ROW;
      const own = peer === "nodetool-auth" ? ' class="own"' : "";
      parts.push(
        `<text${own} x="24" y="${y}">${escape(name)}</text>`,
        `<line class="range ${classOf(peer)}" x1="${x(low).toFixed(1)}" x2="${x(high).toFixed(1)}" y1="${y - 4}" y2="${y - 4}"/>`,
        `<circle class="${classOf(peer)}" cx="${x(median).toFixed(1)}" cy="${y - 4}" r="4"/>`,
        `<text class="value" x="${(x(high) + 10).toFixed(1)}" y="${y}">${digits(median)}</text>`,
      );
    }
  }
  const bottom = y + 12;
  const ticks = [1, 2, 5].flatMap((digit) => Array.from({ length: 12 }, (_, power) => digit * 10 ** (power - 4))).filter((tick) => Math.log10(tick) >= from - 1e-9 && Math.log10(tick) <= to + 1e-9);
  const grid = ticks.flatMap((tick) => [
    `<line class="grid" x1="${x(tick).toFixed(1)}" x2="${x(tick).toFixed(1)}" y1="${top}" y2="${bottom}"/>`,
    `<text class="tick" text-anchor="middle" x="${x(tick).toFixed(1)}" y="${bottom + 15}">${tick.toLocaleString("en", { maximumFractionDigits: 4 })}</text>`,
  ]);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${bottom + 26}" width="${WIDTH}" height="${bottom + 26}" role="img" aria-label="${escape(title)}">
<style>${STYLE}</style>
<text class="title" x="12" y="24">${escape(title)}</text>
<text class="note" x="12" y="43">${escape(note)}</text>
${[...grid, ...parts].join("\n")}
</svg>
`;
}

const RANGE = "Medians, with the lines from the lowest round to the highest. The axis is logarithmic; less is better.";

export function plots({ scenarios, footprints }) {
  const of = (key, wanted) => scenarios.filter(wanted).map(({ title, rows }) => ({ title, rows: rows.map(({ name, peer, results }) => ({ name, peer, values: results.map((result) => result[key]) })) }));
  const takes = (title, key) => ({ title, rows: footprints.map((footprint) => ({ name: footprint.name, peer: footprint.name, values: [footprint[key]].flat() })) });
  const alone = ({ id }) => id === "static-1" || id === "streams";
  const all = {
    cpu: plot("Processor time for a request, microseconds", `${RANGE} 64 connections, one core.`, of("cpu", (scenario) => !alone(scenario))),
    latency: plot("How long an answer takes, milliseconds", RANGE, [
      ...of("p50", ({ id }) => id === "static-1").map((group) => ({ ...group, title: `${group.title}: half of all within` })),
      ...of("p99", ({ id }) => id === "static").map((group) => ({ ...group, title: `${group.title}, 64 connections: 99 of 100 within` })),
      ...of("p99", ({ streams }) => streams).map((group) => ({ ...group, title: `${group.title}: 99 of 100 events within` })),
    ]),
    streams: plot("Processor time for an event, microseconds", RANGE, of("cpu", ({ streams }) => streams)),
    footprint: plot("Footprint", RANGE, [takes("Start to first answer, ms", "start"), takes("Memory at rest, MB", "rest"), takes("Memory at most, under load, MB", "busy"), takes("Memory for an idle connection, KB", "idle")]),
  };
  return Object.fromEntries(Object.entries(all).filter(([, svg]) => svg));
}
