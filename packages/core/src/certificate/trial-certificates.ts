import type { AppName, HostId, Instant } from '../id.ts'
import type { Certificate } from './certificate.ts'
import type { Hostname, OrderFailure } from './hostname.ts'

/** For tests: names and certificates with good defaults. */
export const HOUR = 3_600_000
export const DAY = 24 * HOUR

export function hostname(change: Partial<Hostname> = {}): Hostname {
  return {
    name: 'www.example.com',
    app: 'shop' as AppName,
    createdAt: 0,
    acme: true,
    challenge: null,
    provenAt: null,
    askedAt: null,
    failure: null,
    ...change,
  }
}

/** Of 90 days. */
export function certificate(change: Partial<Certificate> & { from?: Instant } = {}): Certificate {
  const { from = 0, ...rest } = change
  return {
    hostname: 'www.example.com',
    source: 'acme',
    chain: 'PEM',
    fingerprint: `f${from}`,
    issuer: 'CN=authority',
    notBefore: from,
    notAfter: from + 90 * DAY,
    gotAt: from,
    sealedKeys: {},
    ...rest,
  }
}

export function failure(change: Partial<OrderFailure> = {}): OrderFailure {
  return { at: 0, host: id('a'), count: 1, challenge: 'http-01', why: 'no route', ...change }
}

export const id = (letter: string) => letter.repeat(14) as HostId
