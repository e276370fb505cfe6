/** What an app asked for by answering with `fly-replay`: deliver this request again, elsewhere. After Fly's dynamic request routing. */
export interface Replay {
  /** This app instead of the one that answered. */
  readonly app: string | null
  /** This machine and no other. */
  readonly instance: string | null
  /** This machine if it can. */
  readonly preferInstance: string | null
  /** Codes or names of many regions, tried in this order. Empty: all. */
  readonly regions: readonly string[]
  /** Not the machine that answered. */
  readonly elsewhere: boolean
  /** Told to who gets the request. */
  readonly state: string | null
  /** For how long a machine is looked for. */
  readonly timeoutMs: number | null
  /** Where it goes when there is none: back to who answered, or also to others of its app. */
  readonly fallback: 'force_self' | 'prefer_self' | null
  readonly transform: ReplayTransform | null
  readonly cache: ReplayCacheWish | null
}

export interface ReplayTransform {
  /** With the query. */
  readonly path: string | null
  readonly deleteHeaders: readonly string[]
  readonly setHeaders: readonly { readonly name: string; readonly value: string }[]
}

export type ReplayCacheWish =
  | { readonly kind: 'invalidate' }
  | {
      readonly kind: 'keep'
      /** `host/path/*`, `/path/*`, or without the star for one path alone. */
      readonly prefix: string
      readonly ttlSeconds: number
      /** Clients may ask for the app itself. */
      readonly allowBypass: boolean
    }

export type ReplayParsed =
  | { readonly kind: 'replay'; readonly replay: Replay }
  | { readonly kind: 'refused'; readonly why: string }

/** How often one request may be delivered again. */
export const REPLAYS_MAX = 3
/** Of a body that is kept for that. */
export const REPLAY_BODY_BYTES_MAX = 1_048_576
/** Of an answer that says where to. */
export const REPLAY_ANSWER_BYTES_MAX = 65_536
export const REPLAY_CONTENT_TYPE = 'application/vnd.fly.replay+json'
export const CACHE_TTL_SECONDS_MIN = 10
export const CACHE_TTL_SECONDS_MAX = 86_400
const CACHE_TTL_SECONDS = 60

type Fields = ReadonlyMap<string, string>

/** `region=ams;state=x`, several regions in quotes: `region="ams,iad"`. `others`: further headers of the answer, lower case. */
export function parseReplayHeader(
  text: string,
  others: Readonly<Record<string, string | undefined>> = {},
): ReplayParsed {
  const fields = new Map<string, string>()
  for (const part of splitOutsideQuotes(text)) {
    const at = part.indexOf('=')
    if (part.trim() === '') continue
    if (at === -1) return refuse(`${part.trim().slice(0, 40)} has no value`)
    const value = part.slice(at + 1).trim()
    const bare = /^"(.*)"$/s.exec(value)?.[1] ?? value
    fields.set(part.slice(0, at).trim().toLowerCase(), bare)
  }
  if (fields.size === 0) return refuse('it is empty')
  const asked = others['fly-replay-cache']?.trim() ?? ''
  const ttl = others['fly-replay-cache-ttl-secs']
  const cache = cacheWish({
    prefix: asked === 'invalidate' ? '' : asked,
    invalidate: asked === 'invalidate',
    ttl: ttl === undefined ? undefined : Number(ttl),
    allowBypass: others['fly-replay-cache-allow-bypass']?.trim().toLowerCase() === 'yes',
  })
  return finish(fields, null, cache)
}

/** The same as a JSON document, which can also change the request. */
export function parseReplayBody(text: string): ReplayParsed {
  let read: unknown
  try {
    read = JSON.parse(text)
  } catch {
    return refuse('its body is not JSON')
  }
  if (!isObject(read)) return refuse('its body is not an object')
  const fields = new Map<string, string>()
  for (const name of FIELDS) {
    const value = read[name]
    if (value === undefined || value === null) continue
    if (Array.isArray(value) && value.every((one) => typeof one === 'string'))
      fields.set(name, value.join(','))
    else if (typeof value === 'string' || typeof value === 'boolean') fields.set(name, `${value}`)
    else return refuse(`${name} is not text`)
  }
  const transform = transformOf(read['transform'])
  if (typeof transform === 'string') return refuse(transform)
  const wish = read['cache']
  if (wish !== undefined && !isObject(wish)) return refuse('cache is not an object')
  const cache = cacheWish({
    prefix: typeof wish?.['prefix'] === 'string' ? wish['prefix'] : '',
    invalidate: wish?.['invalidate'] === true,
    ttl: typeof wish?.['ttl'] === 'number' ? wish['ttl'] : undefined,
    allowBypass: wish?.['allow_bypass'] === true || read['allow_bypass'] === true,
  })
  return finish(fields, transform, cache)
}

const FIELDS = [
  ...['app', 'instance', 'prefer_instance', 'region', 'elsewhere'],
  ...['state', 'timeout', 'fallback'],
]

function finish(
  fields: Fields,
  transform: ReplayTransform | null,
  cache: ReplayCacheWish | null,
): ReplayParsed {
  const text = (name: string) => {
    const value = fields.get(name)
    return value === undefined || value === '' ? null : value
  }
  // They become part of headers, and of what the edge is asked.
  for (const name of ['app', 'instance', 'prefer_instance', 'region'])
    if (!/^[\x20-\x7e]{0,1000}$/.test(fields.get(name) ?? ''))
      return refuse(`${name} is no name, or too long`)
  const timeout = text('timeout')
  const timeoutMs = timeout === null ? null : durationMs(timeout)
  if (timeout !== null && timeoutMs === null) return refuse(`timeout ${timeout} is no duration`)
  const fallback = text('fallback')
  if (fallback !== null && fallback !== 'force_self' && fallback !== 'prefer_self')
    return refuse(`fallback ${fallback} is neither force_self nor prefer_self`)
  const state = text('state')
  // It becomes part of a header.
  if (state !== null && !isHeaderValue(state)) return refuse('state is not printable')
  const replay: Replay = {
    app: text('app')?.toLowerCase() ?? null,
    instance: text('instance'),
    preferInstance: text('prefer_instance'),
    regions: (text('region') ?? '')
      .split(',')
      .map((region) => region.trim().toLowerCase())
      .filter((region) => region !== ''),
    elsewhere: text('elsewhere') === 'true',
    state,
    timeoutMs,
    fallback,
    transform,
    cache: null,
  }
  const kept = cache?.kind === 'keep' && !isSameForOthers(replay) ? null : cache
  return { kind: 'replay', replay: { ...replay, cache: kept } }
}

/** What is different for each request can't be kept for others. */
export function isSameForOthers({ state, transform, timeoutMs, fallback }: Replay): boolean {
  return state === null && transform === null && timeoutMs === null && fallback === null
}

/** What an answer says about the cache, whether it is a replay or not. */
export function cacheWish(asked: {
  readonly prefix: string
  readonly invalidate: boolean
  readonly ttl: number | undefined
  readonly allowBypass: boolean
}): ReplayCacheWish | null {
  if (asked.invalidate) return { kind: 'invalidate' }
  if (asked.prefix === '') return null
  const ttl = asked.ttl ?? CACHE_TTL_SECONDS
  if (!Number.isFinite(ttl)) return null
  return {
    kind: 'keep',
    prefix: asked.prefix,
    ttlSeconds: Math.min(CACHE_TTL_SECONDS_MAX, Math.max(CACHE_TTL_SECONDS_MIN, ttl)),
    allowBypass: asked.allowBypass,
  }
}

function transformOf(read: unknown): ReplayTransform | null | string {
  if (read === undefined || read === null) return null
  if (!isObject(read)) return 'transform is not an object'
  const path = read['path'] ?? null
  if (path !== null && !(typeof path === 'string' && /^\/[\x21-\x7e]*$/.test(path)))
    return 'transform.path is no path'
  const deleted = read['delete_headers'] ?? []
  if (!Array.isArray(deleted) || !deleted.every(isHeaderName))
    return 'transform.delete_headers is no list of names'
  const set = read['set_headers'] ?? []
  const pairs: unknown = isObject(set)
    ? Object.entries(set).map(([name, value]) => ({ name, value }))
    : set
  if (!Array.isArray(pairs)) return 'transform.set_headers is no list'
  const setHeaders: { name: string; value: string }[] = []
  for (const pair of pairs) {
    const [name, value] = isObject(pair) ? [pair['name'], pair['value']] : []
    if (!isHeaderName(name) || typeof value !== 'string' || !isHeaderValue(value))
      return 'transform.set_headers has one without a good name or value'
    if (!isReserved(name)) setHeaders.push({ name, value })
  }
  return { path, deleteHeaders: deleted.filter((name) => !isReserved(name)), setHeaders }
}

/** What carries the request, and what edges alone say, is no app's to change. */
function isReserved(name: string): boolean {
  return /^(connection|content-length|host|transfer-encoding|upgrade|te|expect|keep-alive|proxy-connection|fly-(client-ip|replay-.*|request-id|region|forwarded-.*|preferred-.*)|roost-.*)$/i.test(
    name,
  )
}

function isHeaderName(name: unknown): name is string {
  return typeof name === 'string' && /^[!#$%&'*+.^`|~0-9a-z-]{1,200}$/i.test(name)
}

function isHeaderValue(value: string): boolean {
  return /^[\x20-\x7e\x80-\xff]{0,8000}$/.test(value)
}

/** `5s`, `800ms`, `1.5s`, `2m`. */
function durationMs(text: string): number | null {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text.trim()) ?? []
  if (number === undefined) return null
  return Number(number) * (unit === 'ms' ? 1 : unit === 's' ? 1000 : 60_000)
}

function splitOutsideQuotes(text: string): readonly string[] {
  return text.match(/(?:"[^"]*"|[^";]|")+/g) ?? []
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function refuse(why: string): ReplayParsed {
  return { kind: 'refused', why }
}

/** `fly-replay-src`: who sent a request on. `atUs`: microseconds since 1970. */
export function replaySource(from: {
  readonly instance: string
  readonly region: string
  readonly atUs: number
  readonly state: string | null
}): string {
  const state = from.state === null ? '' : `;state=${from.state}`
  return `instance=${from.instance};region=${from.region};t=${from.atUs}${state}`
}

/** `fly-replay-failed`, for who gets a request back that it sent on. */
export function replayFailed(what: {
  readonly replay: Replay
  readonly source: string
  readonly reason: 'timeout' | 'retries_exhausted' | 'no_candidate'
  readonly elapsedMs: number
}): string {
  const { replay, source, reason, elapsedMs } = what
  const aim = [
    ...(replay.instance === null ? [] : [`instance=${replay.instance}`]),
    ...(replay.app === null ? [] : [`app=${replay.app}`]),
    ...(replay.regions.length === 0 ? [] : [`region="${replay.regions.join(',')}"`]),
  ]
  return [
    ...aim.filter((text) => isHeaderValue(text)),
    `replay_source=${source}`,
    `reason=${reason}`,
    `elapsed_ms=${Math.round(elapsedMs)}`,
  ].join(';')
}
