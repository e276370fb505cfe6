/**
 * Why nothing answers on a port, from what the programs of a machine listen on: `0.0.0.0:3000`, `127.0.0.1:8080`,
 * `[::1]:8080`. Said in words that name the line that mends it.
 */
export function describeListening(port: number, listening: readonly string[]): string {
  const sockets = listening.map(socketOf)
  const here = sockets.filter((socket) => socket.port === port)
  const [inside] = here.filter(isInside)
  if (inside !== undefined)
    return `the program listens on ${inside.text}, where only itself can reach it: let it listen on 0.0.0.0:${port}`
  const [narrow] = here
  if (narrow !== undefined)
    return `the program listens on ${narrow.text}, but not for connections by IPv4: let it listen on 0.0.0.0:${port}`

  const open = sockets.filter((socket) => !isInside(socket))
  const [other] = open
  if (other !== undefined)
    return `nothing listens on port ${port}, but on ${textOf(open)}: set internal_port = ${other.port} in fly.toml, or let the program listen on 0.0.0.0:${port}`
  const [hidden] = sockets
  if (hidden !== undefined)
    return `nothing listens on port ${port}, but on ${textOf(sockets)}, where only the program itself can reach it: let it listen on 0.0.0.0:${hidden.port} and set internal_port = ${hidden.port} in fly.toml`
  return `nothing listens on port ${port}, nor on any other: let the program listen on 0.0.0.0:${port}`
}

/** The program has settled on an address that nobody else can reach: waiting does not mend that. */
export function listensOnlyInside(port: number, listening: readonly string[]): boolean {
  const here = listening.map(socketOf).filter((socket) => socket.port === port)
  return here.length > 0 && here.every(isInside)
}

interface Socket {
  readonly text: string
  readonly address: string
  readonly port: number
}

function socketOf(text: string): Socket {
  const at = text.lastIndexOf(':')
  return {
    text,
    address: text.slice(0, at).replace(/^\[|\]$/g, ''),
    port: Number(text.slice(at + 1)),
  }
}

function isInside({ address }: Socket): boolean {
  return /^127\./.test(address) || address === '::1' || /^::ffff:(127\.|7f)/.test(address)
}

const SHOWN_MAX = 3

function textOf(sockets: readonly Socket[]): string {
  const shown = sockets.slice(0, SHOWN_MAX).map(({ text }) => text)
  const more = sockets.length - shown.length
  return `${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}
