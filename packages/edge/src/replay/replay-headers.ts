import type { ReplayTransform } from '@roost/core'

/** As Node has them: name, value, name, value, in the order and the letters in which they came. */
export type RawHeaders = readonly string[]

const OF_ONE_HOP = /^(connection|keep-alive|proxy-connection|transfer-encoding|expect|upgrade)$/i
/** What edges say among themselves, and what apps say to edges. */
const NOT_FOR_CLIENTS =
  /^(roost-.*|fly-replay|fly-replay-cache|fly-replay-cache-ttl-secs|fly-replay-cache-allow-bypass)$/i

function* pairs(raw: RawHeaders): Iterable<readonly [string, string]> {
  for (let n = 0; n + 1 < raw.length; n += 2) yield [raw[n] ?? '', raw[n + 1] ?? '']
}

/** What is handed to a machine: the client's request, with what edges add. */
export function requestHeaders(
  raw: RawHeaders,
  leg: {
    readonly added: Readonly<Record<string, string | null>>
    readonly transform: ReplayTransform | null
    readonly upgrade: string | null
  },
): string[] {
  const { added, transform } = leg
  const gone = new Set([
    ...(transform?.deleteHeaders ?? []).map((name) => name.toLowerCase()),
    ...(transform?.setHeaders ?? []).map(({ name }) => name.toLowerCase()),
  ])
  const headers: string[] = []
  let chunked = false
  for (const [name, value] of pairs(raw)) {
    chunked ||= /^transfer-encoding$/i.test(name)
    if (OF_ONE_HOP.test(name) || gone.has(name.toLowerCase())) continue
    headers.push(name, value)
  }
  for (const { name, value } of transform?.setHeaders ?? []) headers.push(name, value)
  for (const [name, value] of Object.entries(added)) if (value !== null) headers.push(name, value)
  if (chunked) headers.push('transfer-encoding', 'chunked')
  if (leg.upgrade === null) headers.push('connection', 'close')
  else headers.push('connection', 'upgrade', 'upgrade', leg.upgrade)
  return headers
}

/** What the client gets of an answer, and of its trailers. */
export function responseHeaders(raw: RawHeaders): string[] {
  const headers: string[] = []
  for (const [name, value] of pairs(raw))
    if (!OF_ONE_HOP.test(name) && !NOT_FOR_CLIENTS.test(name)) headers.push(name, value)
  return headers
}
