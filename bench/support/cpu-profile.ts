/** What Node's --cpu-prof writes. Times are microseconds on the clock of `process.hrtime()`. */
export interface CpuProfile {
  readonly startTime: number;
  readonly nodes: readonly ProfileNode[];
  /** Ids of nodes. */
  readonly samples: readonly number[];
  /** For each sample, the time since the one before. */
  readonly timeDeltas: readonly number[];
}

/** A function, as called by its parents. */
interface ProfileNode {
  readonly id: number;
  readonly callFrame: Frame;
  readonly children?: readonly number[];
}

export interface Frame {
  readonly functionName: string;
  /** Empty in what is not JavaScript. */
  readonly url: string;
}

const WAITS = "(idle)";

/**
 * The time of each area between two moments, without what was spent waiting. `areaOf` names a frame's area; a frame of none
 * counts for its nearest caller that has one, and without such a caller for `otherwise`.
 */
export function timeByArea(
  profile: CpuProfile,
  [fromUs, toUs]: readonly [number, number],
  areaOf: (frame: Frame) => string | undefined,
  otherwise: string,
): Map<string, number> {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const parents = new Map(
    profile.nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])),
  );

  function areaWith(id: number | undefined): string {
    const node = id === undefined ? undefined : nodes.get(id);
    return node === undefined ? otherwise : (areaOf(node.callFrame) ?? areaWith(parents.get(node.id)));
  }

  const areas = new Map(profile.nodes.map(({ id }) => [id, areaWith(id)]));
  const times = new Map<string, number>();
  let now = profile.startTime;
  profile.samples.forEach((id, at) => {
    const delta = profile.timeDeltas[at] ?? 0;
    now += delta;
    if (now < fromUs || now > toUs || nodes.get(id)?.callFrame.functionName === WAITS) return;
    const area = areas.get(id) ?? otherwise;
    times.set(area, (times.get(area) ?? 0) + delta);
  });
  return times;
}
