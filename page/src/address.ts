// The daemon's address, which may have a path, such as https://example.org/portico/.

/** The address of the page without query and fragment. `/authorize`, the page of consent, is in the same folder. */
const BASE = new URL(".", location.href);

/** Returns the full address of a path of the daemon, such as `/v1/files`. */
export function addressOf(path: string): string {
  return new URL(`.${path}`, BASE).href;
}

/** Returns the name under which this daemon's page stores a value: daemons under other paths share the storage. */
export function storageName(name: string): string {
  return BASE.pathname === "/" ? name : `${name}:${BASE.pathname}`;
}
