// Medians, and how far the rounds lie apart.

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The median of all rounds, with the lowest and the highest. */
export function spread(values) {
  const known = values.filter((value) => value !== undefined);
  if (known.length === 0) return undefined;
  return { median: median(known), low: Math.min(...known), high: Math.max(...known) };
}

/** Half of the range, in percent of the median. */
export const noise = ({ median, low, high }) => ((high - low) / 2 / median) * 100;

/** Of what was measured in the same rounds: the median of the ratios, with their range. */
export const ratio = (these, those) => spread(these.map((value, round) => value / those[round]));
