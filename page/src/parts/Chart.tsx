import { t } from "../words/words";

const WIDTH = 640;
const HEIGHT = 220;
const LEFT = 52;
const BOTTOM = 28;
const TOP = 12;
/** Maximum number of points with individual dots. A single point needs one, because it has no line. */
const MAX_DOTS = 100;

export interface Line {
  name: string;
  points: { x: number; y: number }[];
}

/** Returns a round number at or above `value`: 1, 2 or 5 times a power of ten. */
export function roundUp(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 5, 10].find((step) => step * power >= value) ?? 10);
}

/** Number of distinguishable line styles. */
const MAX_KINDS = 8;

/**
 * A line chart with axes. Each line has the class `line0`, `line1` … `ends` replaces the steps below the ends of the x
 * axis, and `total` replaces the last value after the name of a line.
 */
export function Chart(props: {
  label: string;
  lines: Line[];
  xName: string;
  ends?: [string, string];
  total?: (line: Line) => string;
}) {
  const { label, lines, xName, ends, total } = props;
  const points = lines.flatMap((line) => line.points);
  const mostX = Math.max(1, ...points.map((point) => point.x));
  const mostY = roundUp(Math.max(0, ...points.map((point) => point.y)));
  const x = (value: number) => LEFT + (value / mostX) * (WIDTH - LEFT - 8);
  const y = (value: number) => TOP + (1 - value / mostY) * (HEIGHT - TOP - BOTTOM);
  return (
    <figure class="chart">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={label}>
        {[0, 0.25, 0.5, 0.75, 1].map((share) => (
          <g key={share}>
            <line class="grid" x1={LEFT} x2={WIDTH - 8} y1={y(share * mostY)} y2={y(share * mostY)} />
            <text x={LEFT - 6} y={y(share * mostY) + 4} text-anchor="end">
              {Number((share * mostY).toPrecision(3))}
            </text>
          </g>
        ))}
        <text x={LEFT} y={HEIGHT - 8}>
          {ends ? ends[0] : 0}
        </text>
        <text x={WIDTH - 8} y={HEIGHT - 8} text-anchor="end">
          {ends ? ends[1] : `${mostX} ${xName}`}
        </text>
        {lines.map((line, number) => (
          <polyline
            key={line.name}
            class={`line${number % MAX_KINDS}`}
            points={line.points.map((point) => `${x(point.x)},${y(point.y)}`).join(" ")}
          />
        ))}
        {points.length <= MAX_DOTS &&
          lines.map((line, number) =>
            line.points.map((point) => (
              <circle
                key={`${line.name} ${point.x}`}
                class={`line${number % MAX_KINDS}`}
                cx={x(point.x)}
                cy={y(point.y)}
                r={3}
              />
            )),
          )}
      </svg>
      <figcaption class="soft">
        {lines.map((line, number) => (
          <span key={line.name}>
            <i class={`key${number % MAX_KINDS}`} aria-hidden="true" /> {line.name}{" "}
            {total ? total(line) : t("chart.last", { value: line.points.at(-1)?.y.toPrecision(4) ?? "" })}
          </span>
        ))}
      </figcaption>
    </figure>
  );
}
