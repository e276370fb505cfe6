import { type IncomingMessage, request } from 'node:http'
import type { Duplex } from 'node:stream'
import {
  ANYWHERE,
  cacheKey,
  isSameForOthers,
  type KeptReplay,
  parseReplayBody,
  parseReplayHeader,
  REPLAY_ANSWER_BYTES_MAX,
  REPLAY_CONTENT_TYPE,
  REPLAYS_MAX,
  type Replay,
  type ReplayAim,
  type ReplayParsed,
  replayFailed,
  replaySource,
} from '@roost/core'
import { abstractPath } from '../haproxy/abstract-path.ts'
import { parseEntryName } from '../haproxy/entry.ts'
import type { Exchange } from './exchange.ts'
import { PatientSocket } from './patient-socket.ts'
import { requestHeaders } from './replay-headers.ts'
import type { CachedRequest, ReplayStore } from './replay-store.ts'
import {
  aimOfHeaders,
  askPatiently,
  type ReplayAnswer,
  type ReplayQuestion,
} from './steer-question.ts'

/**
 * Carries one request to its end: to a machine of its app by way of HAProxy, which balances, queues and holds as ever; and when the
 * answer says to deliver it elsewhere, there, three times at most. Where to is the edge's decision.
 */
export interface CarryOptions {
  /** Where HAProxy takes requests back. */
  readonly againSocket: string
  readonly steerSocket: string
  readonly store: ReplayStore
  /** Milliseconds since 1970. */
  readonly now: () => number
}

interface Target {
  readonly slot: string
  readonly server: string
  readonly machine: string
}
/** One delivery. */
interface Leg {
  /** null: whom HAProxy chooses. */
  readonly to: Target | null
  /** How `to` was found, for when it can't be reached; null: not to be asked again. */
  readonly question: ReplayQuestion | null
  /** Another app than the host's. */
  readonly app: string | null
  /** What the machine is told. */
  readonly told: Readonly<Record<string, string>>
  /** Who sent it on, and how; null: nobody. */
  readonly sentOn: SentOn | null
  /** Back to who sent it on: not again. */
  readonly isFallback: boolean
}
interface SentOn {
  readonly replay: Replay
  readonly from: string
  readonly fromApp: string | null
  readonly source: string
  readonly began: number
}
type Failure = 'timeout' | 'retries_exhausted' | 'no_candidate'
type Answer =
  | { readonly kind: 'answered'; readonly response: IncomingMessage }
  | {
      readonly kind: 'joined'
      readonly response: IncomingMessage
      readonly socket: Duplex
      readonly head: Buffer
    }
  /** No machine has seen it. `response`: HAProxy's own words. */
  | { readonly kind: 'unreached'; readonly response: IncomingMessage | null }
  /** A machine may have seen it. */
  | { readonly kind: 'broken' }

const TRIES_MAX = 3
/** HAProxy that is started again refuses for some hundredths of a second. */
const REFUSED_MS_MAX = 5000
const PAUSE_MS = 100
/** For the rest of an answer that is a replay. */
const REPLAY_ANSWER_MS_MAX = 10_000
const RETRY = { 'retry-after': '1' }
const FIRST: Leg = {
  ...{ to: null, question: null, app: null, told: {}, sentOn: null, isFallback: false },
}

export async function carry(exchange: Exchange, options: CarryOptions): Promise<void> {
  // As HAProxy has it: with the port where that is no usual one.
  const host = `${exchange.request.headers['roost-host'] ?? ''}`
  const kept = options.store.find(cachedOf(exchange, host), options.now())
  let leg = await firstLeg(exchange, options, host, kept)
  let replays = 0
  for (;;) {
    const answer = await deliver(exchange, options, leg)
    if (exchange.gone.aborted) return abandon(answer)
    if (answer.kind === 'joined') return exchange.join(answer.response, answer.socket, answer.head)
    if (answer.kind === 'broken')
      return exchange.say(502, 'The app ended the connection before it had answered.')
    if (answer.kind === 'unreached') {
      if (leg.sentOn === null || leg.isFallback) {
        if (answer.response !== null) return exchange.forward(answer.response)
        return exchange.say(503, 'No machine of this app can answer now.', RETRY)
      }
      abandon(answer)
      const back = await fallBack(exchange, options, host, leg.sentOn, 'retries_exhausted')
      if (back === null) return exchange.say(503, NOBODY, RETRY)
      leg = back
      continue
    }
    const { response } = answer
    if (kept !== null && response.headers['fly-replay-cache'] === 'invalidate')
      options.store.forget(kept.key)
    const parsed = await readReplay(response)
    if (parsed === null) return exchange.forward(response)
    const refusal = await mayNotGoOn(exchange, parsed, leg, replays)
    if (refusal !== null) return exchange.say(...refusal)
    if (parsed.kind === 'refused') return
    if (kept !== null && parsed.replay.cache?.kind === 'invalidate') options.store.forget(kept.key)
    const next = await nextLeg(exchange, options, host, {
      ...{ leg, replay: parsed.replay, from: machineOf(response) },
    })
    if (exchange.gone.aborted) return
    if (next === null) return exchange.say(503, NOBODY, RETRY)
    leg = next
    replays += 1
  }
}

const NOBODY = 'No machine that the app sent this request on to can answer now.'

async function mayNotGoOn(
  exchange: Exchange,
  parsed: ReplayParsed,
  leg: Leg,
  replays: number,
): Promise<Parameters<Exchange['say']> | null> {
  if (parsed.kind === 'refused')
    return [502, `The app sent the request on in a way that is not understood: ${parsed.why}.`]
  if (leg.isFallback) return [502, 'The app sent on a request that had come back to it.']
  if (replays === REPLAYS_MAX)
    return [502, `The request was sent on more than ${REPLAYS_MAX} times.`]
  // A client that is gone needs no words.
  const kept = await exchange.body?.whole().catch(() => 'whole')
  if (kept === 'too-large') return [413, 'The app sent on a request with a body larger than 1 MB.']
  if (kept === 'crowded')
    return [503, 'The edge keeps too many requests to send this one on now.', RETRY]
  return null
}

/** Where an earlier request was sent on, this one may go at once. */
async function firstLeg(
  exchange: Exchange,
  options: CarryOptions,
  host: string,
  kept: KeptReplay | null,
): Promise<Leg> {
  if (kept === null) return steeredByClient(exchange, options, host)
  const skips = exchange.request.headers['fly-replay-cache-control'] === 'skip'
  if (skips && kept.allowBypass) {
    const leg = await steeredByClient(exchange, options, host)
    return { ...leg, told: { 'fly-replay-cache-status': 'bypass' } }
  }
  const { replay } = kept
  const question = { host, from: null, app: replay.app, aim: aimOf(replay, null), timeoutMs: 0 }
  const found = await ask(exchange, options, question)
  if (found.kind === 'no') {
    options.store.forget(kept.key)
    return steeredByClient(exchange, options, host)
  }
  const told = { 'fly-replay-src': kept.source, 'fly-replay-cache-status': 'hit' }
  return { ...FIRST, to: found, question, app: replay.app, told }
}

/** HAProxy has asked already whether there is anybody; here it is asked who, since the request took the longer way. */
async function steeredByClient(
  exchange: Exchange,
  options: CarryOptions,
  host: string,
): Promise<Leg> {
  const of = (name: string) =>
    `${exchange.request.headers[name] ?? ''}`.replace(/\p{Cc}/gu, '').slice(0, 400)
  const asked = {
    forceRegion: of('fly-force-region'),
    forceInstance: of('fly-force-instance-id'),
    preferRegion: of('fly-prefer-region'),
    preferInstance: of('fly-prefer-instance-id'),
  }
  if (Object.values(asked).every((text) => text === '')) return FIRST
  const { aim } = aimOfHeaders(asked)
  const question = { host, from: null, app: null, aim, timeoutMs: 0 }
  const found = await ask(exchange, options, question)
  return found.kind === 'no' ? FIRST : { ...FIRST, to: found, question }
}

/** null: there is nobody. */
async function nextLeg(
  exchange: Exchange,
  options: CarryOptions,
  host: string,
  at: { readonly leg: Leg; readonly replay: Replay; readonly from: string },
): Promise<Leg | null> {
  const { replay, from } = at
  const began = performance.now()
  const app = replay.app ?? at.leg.app
  const question = { host, from, app, aim: aimOf(replay, from), timeoutMs: replay.timeoutMs }
  const found = await ask(exchange, options, question)
  const source = replaySource({
    instance: from,
    region: found.fromRegion,
    atUs: Math.round(options.now() * 1000),
    state: replay.state,
  })
  const sentOn = { replay, from, fromApp: at.leg.app, source, began }
  if (found.kind === 'no') return fallBack(exchange, options, host, sentOn, found.reason)
  const told: Record<string, string> = { 'fly-replay-src': source }
  options.store.setRules(host, found.sessions)
  const keeping = keepingOf(exchange, options, host, replay)
  if (keeping !== null) {
    const { key, allowBypass, ttlSeconds } = keeping
    const expiresAt = options.now() + ttlSeconds * 1000
    options.store.keep({ key, replay: { ...replay, app }, allowBypass, source, expiresAt })
    told['fly-replay-cache-status'] = 'miss'
  }
  return { to: found, question, app, told, sentOn, isFallback: false }
}

/** By the app's own word for a path, else by its rules for sessions. */
function keepingOf(
  exchange: Exchange,
  { store }: CarryOptions,
  host: string,
  replay: Replay,
): { readonly key: string; readonly allowBypass: boolean; readonly ttlSeconds: number } | null {
  const wish = replay.cache
  if (wish?.kind === 'invalidate') return null
  const key = wish === null ? null : cacheKey(wish.prefix, host)
  if (wish !== null && key !== null) return { key, ...wish }
  const session = isSameForOthers(replay) ? store.sessionOf(cachedOf(exchange, host)) : null
  if (session === null) return null
  const { ttl_seconds: ttlSeconds, allow_bypass: allowBypass = false } = session.rule
  return { key: session.key, allowBypass, ttlSeconds }
}

function cachedOf({ request: { url, headers } }: Exchange, host: string): CachedRequest {
  return { host, path: url?.split('?')[0] ?? '/', headers }
}

/** Back to who sent it on, if it asked for that. */
async function fallBack(
  exchange: Exchange,
  options: CarryOptions,
  host: string,
  sentOn: SentOn,
  reason: Failure,
): Promise<Leg | null> {
  const { replay, from, fromApp, began } = sentOn
  if (replay.fallback === null) return null
  const aim: ReplayAim =
    replay.fallback === 'force_self'
      ? { ...ANYWHERE, instance: from }
      : { ...ANYWHERE, preferInstance: from }
  const question = { host, from, app: fromApp, aim, timeoutMs: null }
  const found = await ask(exchange, options, question)
  if (found.kind === 'no') return null
  const elapsedMs = performance.now() - began
  const told = { 'fly-replay-failed': replayFailed({ replay, source: from, reason, elapsedMs }) }
  return { to: found, question, app: fromApp, told, sentOn, isFallback: true }
}

/** Tries others where one can't be reached and any would do. */
async function deliver(exchange: Exchange, options: CarryOptions, leg: Leg): Promise<Answer> {
  const tried: string[] = []
  let { to } = leg
  for (;;) {
    const answer = await send(exchange, options, leg, to)
    if (answer.kind !== 'unreached' || leg.question === null || to === null) return answer
    tried.push(to.machine)
    const { aim } = leg.question
    if (tried.length === TRIES_MAX || aim.instance !== null) return answer
    const not = [...aim.not, ...tried]
    const question = { ...leg.question, aim: { ...aim, not }, timeoutMs: 0 }
    const next = await ask(exchange, options, question)
    if (next.kind === 'no') return answer
    abandon(answer)
    to = next
  }
}

async function send(
  exchange: Exchange,
  options: CarryOptions,
  leg: Leg,
  to: Target | null,
): Promise<Answer> {
  const from = performance.now()
  for (;;) {
    const answer = await sendOnce(exchange, options, leg, to)
    const again = answer === 'refused' && performance.now() - from < REFUSED_MS_MAX
    if (answer !== 'refused') return answer
    if (!again || exchange.gone.aborted) return { kind: 'unreached', response: null }
    await pause()
  }
}

function sendOnce(
  exchange: Exchange,
  options: CarryOptions,
  leg: Leg,
  to: Target | null,
): Promise<Answer | 'refused'> {
  const { body, upgrade } = exchange
  const transform = leg.isFallback ? null : (leg.sentOn?.replay.transform ?? null)
  const preferred = leg.sentOn?.replay.preferInstance ?? null
  const added = {
    ...leg.told,
    ...(to === null ? {} : { 'roost-slot': to.slot, 'roost-server': to.server }),
    ...(leg.isFallback || preferred === null || preferred === to?.machine
      ? {}
      : { 'fly-preferred-instance-unavailable': preferred }),
  }
  return new Promise((resolve) => {
    const asked = request({
      createConnection: () =>
        new PatientSocket().connect({ path: abstractPath(options.againSocket) }),
      method: exchange.request.method ?? 'GET',
      path: transform?.path ?? exchange.request.url ?? '/',
      headers: requestHeaders(exchange.request.rawHeaders, { added, transform, upgrade }),
      signal: exchange.gone,
    })
    asked.on('information', (answer) => exchange.hint(answer))
    asked.once('response', (response) => {
      const unreached = response.statusCode === 503 && machineOf(response) === ''
      resolve(unreached ? { kind: 'unreached', response } : { kind: 'answered', response })
    })
    asked.once('upgrade', (response, socket, head) =>
      resolve({ kind: 'joined', response, socket, head }),
    )
    // EAGAIN: more connect at once than HAProxy has accepted.
    asked.on('error', ({ code }: NodeJS.ErrnoException) =>
      resolve(code === 'ECONNREFUSED' || code === 'EAGAIN' ? 'refused' : { kind: 'broken' }),
    )
    if (body === null) asked.end()
    else if (!body.sendTo(asked)) {
      resolve({ kind: 'unreached', response: null })
      asked.destroy()
    }
  })
}

/** null: an answer for the client. */
async function readReplay(response: IncomingMessage): Promise<ReplayParsed | null> {
  const { headers } = response
  const header = headers['fly-replay']
  const isJson = headers['content-type']?.startsWith(REPLAY_CONTENT_TYPE) === true
  if (header === undefined && !isJson) return null
  const text = await readText(response)
  if (isJson && text === null)
    return { kind: 'refused', why: 'its body is too long, or does not end' }
  if (isJson) return parseReplayBody(text ?? '')
  return parseReplayHeader(`${header}`, headers as Readonly<Record<string, string | undefined>>)
}

/** null: longer than it may be, or not to its end. */
async function readText(response: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = []
  let bytes = 0
  const late = setTimeout(() => response.destroy(), REPLAY_ANSWER_MS_MAX)
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > REPLAY_ANSWER_BYTES_MAX) {
        response.destroy()
        return null
      }
      chunks.push(chunk)
    }
  } catch {
    return null
  } finally {
    clearTimeout(late)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function aimOf(replay: Replay, from: string | null): ReplayAim {
  return {
    instance: replay.instance,
    preferInstance: replay.preferInstance,
    regions: replay.regions,
    preferRegions: false,
    not: replay.elsewhere && from !== null ? [from] : [],
  }
}

async function ask(
  exchange: Exchange,
  { steerSocket }: CarryOptions,
  question: ReplayQuestion,
): Promise<ReplayAnswer> {
  const text = `replay\t${JSON.stringify(question)}`
  const line = await askPatiently(steerSocket, text, exchange.gone)
  return line === null
    ? { kind: 'no', reason: 'timeout', why: 'The edge does not answer.', fromRegion: '' }
    : (JSON.parse(line) as ReplayAnswer)
}

/** Who answered; empty when HAProxy itself did. */
function machineOf({ headers }: IncomingMessage): string {
  return parseEntryName(`${headers['roost-answered'] ?? ''}`)?.machine ?? ''
}

function abandon(answer: Answer): void {
  if (answer.kind === 'joined') answer.socket.destroy()
  else if (answer.kind !== 'broken') answer.response?.destroy()
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
}
