import type { webcrypto } from 'node:crypto'
import { type Clock, PlatformError } from '@roost/base'
import type { Instant } from '@roost/core'
import { calculateJwkThumbprint, FlattenedSign, type JWK } from 'jose'
import { Agent, request } from 'undici'
import { retryAfterMs } from './retry-after.ts'

/**
 * Speaks to an authority as RFC 8555 has it: every request is signed with the account's key and carries a nonce of the authority's. Each
 * call ends within `signal`; nothing is kept but the directory and nonces that were not used yet.
 */
export interface AcmeClient {
  /** Makes the account, or finds it: the same key is the same account. */
  account(): Promise<void>
  newOrder(hostname: string): Promise<AcmeOrder>
  authorization(url: string): Promise<AcmeAuthorization>
  /** What an authority wants to find, for this account. */
  keyAuthorization(token: string): Promise<string>
  /** Says that it can be found. */
  respond(challenge: AcmeChallenge): Promise<void>
  /** Resolves when the authority has looked; throws with its words when it did not find what it wanted. */
  untilValid(authorizationUrl: string): Promise<void>
  /** `csr` is DER in base64url. Resolves with the chain in PEM. */
  finalize(order: AcmeOrder, csr: string): Promise<string>
  /** Until then the authority wants to be left alone: it said so as it refused. null: it did not. */
  notBefore(): Instant | null
  close(): Promise<void>
}

export interface AcmeAccount {
  readonly key: webcrypto.CryptoKey
  readonly publicJwk: JWK
}
export interface AcmeOrder {
  readonly url: string
  readonly status: string
  readonly authorizations: readonly string[]
  readonly finalize: string
  readonly certificate?: string
  readonly error?: Problem
}
export interface AcmeChallenge {
  readonly type: string
  readonly url: string
  readonly token: string
  readonly status: string
  readonly error?: Problem
}
export interface AcmeAuthorization {
  readonly status: string
  readonly identifier: { readonly value: string }
  readonly challenges: readonly AcmeChallenge[]
}
interface Problem {
  readonly type?: string
  readonly detail?: string
  readonly subproblems?: readonly Problem[]
}
interface Directory {
  readonly newNonce: string
  readonly newAccount: string
  readonly newOrder: string
}
interface Reply {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
}

const REQUEST_MS_MAX = 20_000
const REPLY_BYTES_MAX = 1_000_000
/** An authority may take a nonce for bad at any time, and gives a new one with that. */
const NONCE_TRIES_MAX = 8
const POLL_MS_MIN = 250
const POLL_MS_MAX = 5_000
/** An authority that asks for longer is asked again before the order's time is over. */
const POLL_WISHED_MS_MAX = 30_000

export function createAcmeClient(options: {
  readonly directory: string
  readonly account: AcmeAccount
  readonly email: string | null
  /** PEM that the authority's own HTTPS is checked with; null: what the system trusts. */
  readonly ca: string | null
  readonly clock: Clock
  /** Ends everything. */
  readonly signal: AbortSignal
}): AcmeClient {
  const { account, clock, signal } = options
  const agent = new Agent({
    connections: 2,
    connect: { timeout: 10_000, ...(options.ca === null ? {} : { ca: options.ca }) },
  })
  let known: Directory | null = null
  let kid: string | null = null
  let nonces: string[] = []
  let notBefore: Instant | null = null

  async function send(
    method: 'GET' | 'HEAD' | 'POST',
    url: string,
    body?: string,
  ): Promise<Reply & { readonly status: number }> {
    if (!url.startsWith('https://')) throw refused(`${url} is not HTTPS`)
    const reply = await request(url, {
      method,
      dispatcher: agent,
      signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_MS_MAX)]),
      headers: {
        'user-agent': 'roost',
        ...(body === undefined ? {} : { 'content-type': 'application/jose+json' }),
      },
      ...(body === undefined ? {} : { body }),
    })
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of reply.body) {
      bytes += chunk.length
      if (bytes > REPLY_BYTES_MAX) throw refused(`the reply of ${url} does not end`)
      chunks.push(chunk)
    }
    const nonce = reply.headers['replay-nonce']
    if (typeof nonce === 'string') nonces = [...nonces.slice(-4), nonce]
    return {
      status: reply.statusCode,
      headers: reply.headers,
      text: Buffer.concat(chunks).toString('utf8'),
    }
  }

  async function directory(): Promise<Directory> {
    if (known !== null) return known
    const { status, text } = await send('GET', options.directory)
    if (status !== 200) throw refused(`its directory answers ${status}`)
    known = JSON.parse(text) as Directory
    return known
  }

  async function nonce(): Promise<string> {
    if (nonces.length === 0) await send('HEAD', (await directory()).newNonce)
    const next = nonces.pop()
    if (next === undefined) throw refused('it gives no nonce')
    return next
  }

  /** `payload` undefined: only asks (POST-as-GET). */
  async function post(url: string, payload?: unknown): Promise<Reply> {
    const text = payload === undefined ? '' : JSON.stringify(payload)
    for (let tries = 1; ; tries++) {
      const jws = await new FlattenedSign(new TextEncoder().encode(text))
        .setProtectedHeader({
          alg: 'ES256',
          nonce: await nonce(),
          url,
          ...(kid === null ? { jwk: account.publicJwk } : { kid }),
        })
        .sign(account.key)
      const reply = await send('POST', url, JSON.stringify(jws))
      if (reply.status < 300) return reply
      const problem = problemOf(reply.text)
      const again = problem?.type?.endsWith(':badNonce') && tries < NONCE_TRIES_MAX
      if (again) continue
      const pauseMs = retryAfterMs(reply.headers['retry-after'], clock.now())
      if (pauseMs !== null) notBefore = clock.now() + pauseMs
      throw refused(wordsOf(problem) ?? `it answers ${reply.status}`)
    }
  }

  async function ask<T>(url: string): Promise<T> {
    return JSON.parse((await post(url)).text) as T
  }

  /** Asks until the status is none of those that pass. */
  async function settled<T extends { readonly status: string }>(
    url: string,
    passing: readonly string[],
  ): Promise<T> {
    for (let pauseMs = POLL_MS_MIN; ; pauseMs = Math.min(POLL_MS_MAX, pauseMs * 1.5)) {
      const { text, headers } = await post(url)
      const found = JSON.parse(text) as T
      if (!passing.includes(found.status)) return found
      const wished = retryAfterMs(headers['retry-after'], clock.now())
      await clock.sleep(wished === null ? pauseMs : Math.min(POLL_WISHED_MS_MAX, wished), signal)
      signal.throwIfAborted()
    }
  }

  const orderAt = async (url: string, text: string): Promise<AcmeOrder> => ({
    ...(JSON.parse(text) as Omit<AcmeOrder, 'url'>),
    url,
  })

  return {
    async account() {
      const { newAccount } = await directory()
      kid = null
      const { headers } = await post(newAccount, {
        termsOfServiceAgreed: true,
        ...(options.email === null ? {} : { contact: [`mailto:${options.email}`] }),
      })
      kid = locationOf(headers)
    },

    async newOrder(hostname) {
      const { newOrder } = await directory()
      const { headers, text } = await post(newOrder, {
        identifiers: [{ type: 'dns', value: hostname }],
      })
      return orderAt(locationOf(headers), text)
    },

    authorization: (url) => ask<AcmeAuthorization>(url),

    keyAuthorization: async (token) =>
      `${token}.${await calculateJwkThumbprint(account.publicJwk, 'sha256')}`,

    async respond(challenge) {
      await post(challenge.url, {})
    },

    async untilValid(url) {
      const found = await settled<AcmeAuthorization>(url, ['pending', 'processing'])
      if (found.status === 'valid') return
      const failed = found.challenges.find(({ error }) => error !== undefined)
      throw refused(wordsOf(failed?.error ?? null) ?? `its authorization is ${found.status}`)
    },

    async finalize(order, csr) {
      // An authority may need a moment between the last proof and the order that it belongs to.
      const ready = await settled<AcmeOrder>(order.url, ['pending'])
      if (ready.status === 'ready') await post(order.finalize, { csr })
      const done = await settled<AcmeOrder>(order.url, ['ready', 'processing'])
      if (done.status !== 'valid' || done.certificate === undefined)
        throw refused(wordsOf(done.error ?? null) ?? `the order is ${done.status}`)
      return (await post(done.certificate)).text
    },

    notBefore: () => notBefore,
    close: () => agent.destroy(),
  }
}

function locationOf(headers: Reply['headers']): string {
  const { location } = headers
  if (typeof location === 'string') return location
  throw refused('it does not say where what was made is')
}

function problemOf(text: string): Problem | null {
  try {
    return JSON.parse(text) as Problem
  } catch {
    return null
  }
}

function wordsOf(problem: Problem | null): string | null {
  if (problem === null) return null
  const parts = [problem.detail, ...(problem.subproblems ?? []).map(({ detail }) => detail)]
  const text = parts.filter((part) => part !== undefined && part !== '').join('; ')
  const kind = problem.type?.split(':').at(-1)
  return text === '' ? (kind ?? null) : kind === undefined ? text : `${kind}: ${text}`
}

function refused(why: string): PlatformError {
  return new PlatformError('unavailable', `the authority refuses: ${why}`, { retry: 'later' })
}
