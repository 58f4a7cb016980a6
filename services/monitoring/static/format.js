// Words for numbers and times. Money arrives as decimal strings and is only turned into a number to be shown.

const MINUS = "\u2212";
export const NONE = "\u2013";

const formats = new Map();

function formatOf(minimum, maximum) {
  const key = minimum * 32 + maximum;
  if (!formats.has(key)) {
    formats.set(key, new Intl.NumberFormat("en-US", { minimumFractionDigits: minimum, maximumFractionDigits: maximum }));
  }
  return formats.get(key);
}

export function isKnown(value) {
  return value !== null && value !== undefined && value !== "" && Number.isFinite(Number(value));
}

export function number(value, digits = 2, maximum = digits) {
  if (!isKnown(value)) return NONE;
  return formatOf(digits, maximum).format(Number(value)).replace("-", MINUS);
}

export function signed(value, digits = 2) {
  if (!isKnown(value)) return NONE;
  const text = number(value, digits);
  return Number(value) > 0 && /[1-9]/.test(text) ? `+${text}` : text;
}

export function percent(share, digits = 0) {
  return isKnown(share) ? `${number(Number(share) * 100, digits)}%` : NONE;
}

export function price(value) {
  if (!isKnown(value)) return NONE;
  const size = Math.abs(Number(value));
  return number(value, size >= 1000 ? 1 : size >= 1 ? 2 : 4, size >= 1000 ? 2 : 6);
}

export function compact(value) {
  if (!isKnown(value)) return NONE;
  const size = Number(value);
  if (size >= 1e9) return `${number(size / 1e9, 2)}B`;
  if (size >= 1e7) return `${number(size / 1e6, 1)}M`;
  return number(size, 0);
}

export function rate(value) {
  if (!isKnown(value)) return NONE;
  return number(value, Number(value) >= 100 ? 0 : Number(value) >= 10 ? 1 : 2);
}

const two = (value) => String(value).padStart(2, "0");

export function clock(ms, withSeconds = true) {
  if (!isKnown(ms)) return NONE;
  const at = new Date(Number(ms));
  const text = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  return withSeconds ? `${text}:${two(at.getUTCSeconds())}` : text;
}

export function day(ms) {
  const at = new Date(Number(ms));
  return `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`;
}

export function moment(ms) {
  return isKnown(ms) ? `${day(ms)} ${clock(ms)}` : NONE;
}

export function duration(ms) {
  if (!isKnown(ms)) return NONE;
  const seconds = Math.max(0, Math.round(Number(ms) / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  const hours = Math.floor(seconds / 3600);
  if (hours < 48) return `${hours} h ${two(Math.floor((seconds % 3600) / 60))} min`;
  return `${Math.floor(hours / 24)} days`;
}

export function words(constant) {
  return constant ? constant.toLowerCase().replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase()) : NONE;
}

export function toneOf(value) {
  const size = Number(value);
  return size > 0 ? "is-up" : size < 0 ? "is-down" : "";
}
