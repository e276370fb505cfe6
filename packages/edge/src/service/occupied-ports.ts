/** A port that some program of this host listens on by itself, where strangers reach it. */
export interface OccupiedPort {
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
}

const LISTEN = '0A'
const UNCONNECTED = '07'

/** Reads `/proc/net/tcp` or `/proc/net/udp`: what is bound to `address` or to all. */
export function occupiedPorts(
  protocol: OccupiedPort['protocol'],
  text: string,
  address: string,
): readonly OccupiedPort[] {
  // In the byte order of the machine, as the kernel prints it.
  const own = address
    .split('.')
    .map((part) => Number(part).toString(16).padStart(2, '0'))
    .reverse()
    .join('')
    .toUpperCase()
  const wanted = protocol === 'tcp' ? LISTEN : UNCONNECTED
  return text.split('\n').flatMap((line) => {
    const [, local = '', , state] = line.trim().split(/\s+/)
    const [at, port] = local.split(':')
    const bound = at === own || at === '00000000'
    return bound && state === wanted ? [{ protocol, port: Number.parseInt(port ?? '', 16) }] : []
  })
}
