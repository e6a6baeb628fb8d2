/*
 * Loaded into a relayer before anything else (`node --import`): its wall clock is wrong by CLOCK_SHIFT_MS. The monotonic clock
 * and timers stay as they are, as on a host whose clock was set wrong.
 */
const shiftMs = Number(process.env.CLOCK_SHIFT_MS ?? 0);

globalThis.Date = new Proxy(Date, {
  construct: (RealDate, args, target) =>
    Reflect.construct(RealDate, args.length === 0 ? [RealDate.now() + shiftMs] : args, target),
  apply: (RealDate) => new RealDate(RealDate.now() + shiftMs).toString(),
  get: (RealDate, property) =>
    property === "now" ? () => RealDate.now() + shiftMs : Reflect.get(RealDate, property),
});
