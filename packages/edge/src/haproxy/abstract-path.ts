/** As HAProxy's `abns@`: a name of the full length, filled up with zeros. */
export function abstractPath(name: string): string {
  return `\0${name}`.padEnd(108, '\0')
}
