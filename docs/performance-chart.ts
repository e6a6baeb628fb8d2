/* A bar for each part, all on one scale, cut into its areas; under it what each colour is. Plain SVG, readable on light and dark. */

export interface Part {
  readonly name: string;
  readonly areas: readonly Area[];
}

export interface Area {
  readonly name: string;
  readonly us: number;
}

const WIDTH = 800;
const MARGIN = 20;
const BAR = 30;
const LINE = 22;
const COLUMNS = 3;
/** Narrower than this, a piece has no room for its figure. */
const ROOM = 34;
/** An area with less than this share of the whole is among the others. */
const SMALL = 0.01;

/** Of middling lightness, so that black figures can be read on each, and each is seen on white and on black. */
const COLOURS = [
  "#9aa5b1",
  "#6ea8dc",
  "#f2a154",
  "#7cc078",
  "#e98b8b",
  "#7cc4bd",
  "#c39bd3",
  "#e3c44f",
  "#bf9a82",
  "#f0a6c0",
  "#a9b665",
  "#8c9eff",
  "#d4a373",
] as const;

const STYLE = `
  text { font: 14px system-ui, sans-serif; fill: #1f2328; }
  .total { font-size: 18px; font-weight: 600; }
  .part { font-weight: 600; }
  .figure { font-size: 12px; fill: #111; text-anchor: middle; }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3; } }
`;

export function chart(given: readonly Part[]): string {
  const whole = sum(given.flatMap(({ areas }) => areas));
  const parts = given.map((part) => ({ ...part, areas: withoutSmall(part.areas, whole * SMALL) }));
  const scale = (WIDTH - 2 * MARGIN) / Math.max(...parts.map(({ areas }) => sum(areas)));
  const heading = `CPU time a message: ${micro(whole)}`;
  let colour = 0;
  let y = MARGIN + 18;
  const drawn: string[] = [text(MARGIN, y, heading, "total")];
  for (const part of parts) {
    const coloured = part.areas.map((area) => ({
      ...area,
      colour: COLOURS[colour++ % COLOURS.length] as string,
    }));
    y += 36;
    drawn.push(text(MARGIN, y, `${part.name}: ${micro(sum(part.areas))}`, "part"));
    y += 10;
    drawn.push(...bar(coloured, y, scale));
    y += BAR;
    drawn.push(...legend(coloured, y));
    y += Math.ceil(coloured.length / COLUMNS) * LINE;
  }
  const description = parts.map(
    ({ name, areas }) =>
      `${name} ${micro(sum(areas))}: ${areas.map((area) => `${area.name} ${micro(area.us)}`).join(", ")}.`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y + MARGIN}" role="img" aria-labelledby="title description">`,
    `<title id="title">${escaped(heading)}</title>`,
    `<desc id="description">${escaped(description.join(" "))}</desc>`,
    `<style>${STYLE}</style>`,
    ...drawn,
    "</svg>\n",
  ].join("\n");
}

interface Coloured extends Area {
  readonly colour: string;
}

function bar(areas: readonly Coloured[], y: number, scale: number): string[] {
  let x = MARGIN;
  return areas.flatMap(({ us, colour }) => {
    const width = us * scale;
    const piece = [
      `<rect x="${round(x)}" y="${y}" width="${round(Math.max(1, width - 1))}" height="${BAR}" fill="${colour}"/>`,
    ];
    if (width >= ROOM) piece.push(text(x + width / 2, y + 20, us.toFixed(1), "figure"));
    x += width;
    return piece;
  });
}

function legend(areas: readonly Coloured[], top: number): string[] {
  const column = (WIDTH - 2 * MARGIN) / COLUMNS;
  return areas.flatMap(({ name, us, colour }, index) => {
    const x = MARGIN + (index % COLUMNS) * column;
    const y = top + (Math.floor(index / COLUMNS) + 1) * LINE;
    return [
      `<rect x="${round(x)}" y="${y - 11}" width="12" height="12" fill="${colour}"/>`,
      text(x + 18, y, `${name}: ${micro(us)}`),
    ];
  });
}

function withoutSmall(areas: readonly Area[], least: number): Area[] {
  const small = areas.filter(({ us }) => us < least);
  if (small.length < 2) return [...areas];
  return [...areas.filter(({ us }) => us >= least), { name: "others", us: sum(small) }];
}

function text(x: number, y: number, words: string, kind?: string): string {
  const marked = kind === undefined ? "" : ` class="${kind}"`;
  return `<text x="${round(x)}" y="${round(y)}"${marked}>${escaped(words)}</text>`;
}

function sum(areas: readonly Area[]): number {
  return areas.reduce((total, { us }) => total + us, 0);
}

function micro(us: number): string {
  return `${us.toFixed(1)} µs`;
}

function round(length: number): number {
  return Math.round(length * 10) / 10;
}

function escaped(words: string): string {
  return words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
