import { runCommand } from '@roost/base'

const LOOK_MS_MAX = 2000
const SOCKETS_MAX = 8
const LISTEN = '0A'

/** TCP addresses on which programs of a network namespace listen, wide open ones first: `0.0.0.0:3000`, `[::1]:8080`. */
export async function listeningIn(netnsPath: string): Promise<readonly string[]> {
  const { stdout } = await runCommand(
    ['nsenter', `--net=${netnsPath}`, 'cat', '/proc/self/net/tcp', '/proc/self/net/tcp6'],
    { timeoutMs: LOOK_MS_MAX, outputBytesMax: 2_000_000 },
  )
  return listeningOf(stdout)
}

/** From the kernel's tables, at most eight. */
export function listeningOf(tables: string): readonly string[] {
  const found = new Set<string>()
  for (const line of tables.split('\n')) {
    const [, local, , state] = line.trim().split(/\s+/)
    const address = addressOf(local ?? '')
    if (state === LISTEN && address !== null) found.add(address)
  }
  const isWide = (text: string) => text.startsWith('0.0.0.0:') || text.startsWith('[::]:')
  return [...found].sort((a, b) => Number(isWide(b)) - Number(isWide(a))).slice(0, SOCKETS_MAX)
}

/** Of what the kernel prints, `0100007F:1F90`; null: it is none. */
export function addressOf(text: string): string | null {
  const [hex = '', port = ''] = text.split(':')
  if (!/^([0-9A-F]{8}|[0-9A-F]{32})$/.test(hex)) return null
  return `${hex.length === 8 ? ipv4(hex) : `[${ipv6(hex)}]`}:${Number.parseInt(port, 16)}`
}

/** The kernel prints words of 32 bits in the order of the machine, which is little-endian wherever Roost runs. */
function bytesOf(hex: string): number[] {
  return (hex.match(/.{8}/g) ?? []).flatMap((word) =>
    (word.match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16)).reverse(),
  )
}

function ipv4(hex: string): string {
  return bytesOf(hex).join('.')
}

function ipv6(hex: string): string {
  const bytes = bytesOf(hex)
  const groups = Array.from({ length: 8 }, (_, n) =>
    (((bytes[2 * n] ?? 0) << 8) | (bytes[2 * n + 1] ?? 0)).toString(16),
  )
  // As people write it: the URL parser shortens an address.
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}
