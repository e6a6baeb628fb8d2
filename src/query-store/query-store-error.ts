/** Why a query store could not be made, looked at or dropped, as sentences for the person who asked. */
export class QueryStoreError extends Error {
  override readonly name = "QueryStoreError";
  readonly faults: readonly string[];

  constructor(faults: readonly string[], options?: ErrorOptions) {
    super(faults.join("\n"), options);
    this.faults = faults;
  }
}
