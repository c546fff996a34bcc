// The daemon's address, which may have a path, such as https://example.org/portico/.

/**
 * Returns the address of the page without query and fragment. `/authorize`, the page of consent, is in the same folder.
 * It is not read at the start, because a view in another program's frame has no such address.
 */
const base = () => new URL(".", location.href);

/** Returns the full address of a path of the daemon, such as `/v1/files`. */
export function addressOf(path: string): string {
  return new URL(`.${path}`, base()).href;
}

/** Returns the name under which this daemon's page stores a value: daemons under other paths share the storage. */
export function storageName(name: string): string {
  const { pathname } = base();
  return pathname === "/" ? name : `${name}:${pathname}`;
}
