import {
  type CertificateReport,
  type EdgeCertificateReply,
  type ProgramWord,
  VERSION,
  type WatchEvent,
} from '@roost/api'
import { createPeerClient, lifeOf, systemClock } from '@roost/base'
import type { Draining, Revision } from '@roost/core'

/** What an edge needs of the server. Without it, it serves on with what it last heard. */
export interface ServerLink {
  /** Lists, then goes on until the connection breaks (throws) or `signal` aborts. */
  watch(since: Revision, signal: AbortSignal): AsyncIterable<WatchEvent>
  heartbeat(
    beat: {
      readonly applied: Revision
      readonly draining: readonly Draining[]
      /** Records that can not be worked with, and why. */
      readonly refused: readonly string[]
    },
    signal: AbortSignal,
  ): Promise<void>
  /** Signs a certificate for the domain and all names below it; PEM in and out. */
  signCertificate(csr: string, signal: AbortSignal): Promise<string>
  /** What was ordered or sealed here, and what came of orders. */
  reportCertificates(report: CertificateReport, signal: AbortSignal): Promise<void>
  close(): Promise<void>
}

/** More than the server takes would make a heartbeat that it does not. */
const REFUSED_MAX = 20
const REFUSED_CHARS_MAX = 300

export function createServerLink(options: {
  readonly url: string
  readonly tls: { readonly ca: string; readonly certificate: string; readonly key: string }
}): ServerLink {
  const client = createPeerClient({ ...options, expect: 'roost://server' })
  const { expiresAt } = lifeOf(options.tls.certificate)
  const word = (): ProgramWord => ({
    version: VERSION,
    clock: systemClock.now(),
    certificate_expires_at: expiresAt,
  })
  return {
    watch: (since, signal) =>
      client.lines<WatchEvent>('GET', `/internal/v1/watch?since=${since}`, { signal }),
    heartbeat: ({ applied, draining, refused }, signal) => {
      const said = refused.slice(0, REFUSED_MAX).map((text) => text.slice(0, REFUSED_CHARS_MAX))
      const beat = { applied, draining, program: { ...word(), refused: said } }
      return client.json('POST', '/internal/v1/heartbeat', beat, { signal, timeoutMs: 5000 })
    },
    signCertificate: async (csr, signal) => {
      const reply = await client.json<EdgeCertificateReply>(
        'POST',
        '/internal/v1/edge-certificate',
        { csr },
        { signal },
      )
      return reply.certificate
    },
    reportCertificates: (report, signal) =>
      client.json('POST', '/internal/v1/certificates', report, { signal, timeoutMs: 5000 }),
    close: () => client.close(),
  }
}
