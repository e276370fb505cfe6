import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { EdgeConfig, Presented, Settings } from '@roost/api'
import {
  type Clock,
  type HttpListener,
  type Logger,
  PlatformError,
  type SealingKey,
} from '@roost/base'
import type { HostId } from '@roost/core'
import { openAccount } from '../acme/account-file.ts'
import { type AcmeAccount, createAcmeClient } from '../acme/acme-client.ts'
import { type ChallengeBoard, createChallengeBoard } from '../acme/challenge-board.ts'
import {
  type CertificateFiles,
  type CertificatePaths,
  createCertificateFiles,
} from '../haproxy/certificate-files.ts'
import type { RuntimeApi } from '../haproxy/runtime-api.ts'
import type { TlsLists } from '../haproxy/tls-lists.ts'
import type { ServerLink } from '../link/server-link.ts'
import type { Prober } from '../probe/prober.ts'
import type { GoodRecords } from '../record/good-records.ts'
import { createCertificateShelf } from './certificate-shelf.ts'
import { isDelegated } from './delegation.ts'
import { addPeerRoutes, type EdgePeers } from './edge-peers.ts'
import { type CertificateKeeper, startCertificateKeeper } from './keep-certificates.ts'
import { createLeaseDesk } from './lease-desk.ts'
import { createServedCertificates } from './served-certificates.ts'

/** Certificates of people's own names at one edge: ordered, kept, shared, shown. */
export interface Certificates {
  readonly files: CertificateFiles
  readonly texts: ChallengeBoard['texts']
  /** What other edges ask of this one. */
  addRoutes(listener: HttpListener): void
  /** Once HAProxy is steered. */
  start(prober: Prober): void
  /** Records changed. */
  wake(): void
  stop(): Promise<void>
}

export function createCertificates(options: {
  readonly config: EdgeConfig
  readonly records: GoodRecords
  readonly settings: () => Settings | null
  readonly link: Pick<ServerLink, 'reportCertificates'>
  readonly edges: EdgePeers
  readonly api: RuntimeApi
  readonly paths: CertificatePaths
  /** What apps ask of handshakes under these names. */
  readonly tlsOptions: () => TlsLists
  /** false: HAProxy speaks no TLS. */
  readonly withTls: boolean
  readonly onChange: () => void
  readonly clock: Clock
  readonly log: Logger
  readonly leaseMs?: number | undefined
}): Certificates {
  const { config, records, clock, log } = options
  const self = config.hostId as HostId
  const sealing = readSealingKey(config.sealingKeyFile, log)
  const board = createChallengeBoard()
  const hostnames = () => records.list('hostname')
  const shelf = createCertificateShelf({
    file: join(config.dataDir, 'certificates.json'),
    self,
    sealing: sealing ?? { publicKey: '', privateKey: '' },
    records: () => records.list('certificate'),
    hostnames,
    log,
  })
  const desk = createLeaseDesk({
    self,
    // Who knows of nobody, not even of itself, may have forgotten others.
    isAlone: () => {
      const hosts = records.list('host')
      return hosts.length === 1 && hosts[0]?.id === self
    },
    ...(options.leaseMs === undefined ? {} : { leaseMs: options.leaseMs }),
  })
  const served = createServedCertificates({
    hostnames,
    shelf,
    presented: () => board.list(),
    now: () => clock.now(),
    log,
  })
  const files = createCertificateFiles({
    paths: options.paths,
    serving: async () => (options.withTls ? served() : []),
    tlsOptions: options.tlsOptions,
    tokens: () =>
      new Map(
        board
          .list()
          .filter(({ challenge }) => challenge === 'http-01')
          .map(({ token, keyAuthorization }) => [token, keyAuthorization]),
      ),
    now: () => performance.now(),
    log,
  })
  let keeper: CertificateKeeper | null = null
  /** One order after the other, or several would each make an account of their own. */
  let opening: Promise<unknown> = Promise.resolve()
  function accountAt(directory: string, key: SealingKey): Promise<AcmeAccount> {
    const file = join(config.dataDir, 'acme-accounts.json')
    const next = opening.then(() => openAccount({ file, directory, sealing: key }))
    opening = next.catch(() => {})
    return next
  }

  async function present(what: Presented): Promise<void> {
    if (what.end) board.end(what)
    else board.put(what)
    await files.bringThere(options.api)
  }

  return {
    files,
    texts: (hostname) => board.texts(hostname),
    addRoutes: (listener) =>
      addPeerRoutes(listener, {
        lease(from, hostname, end) {
          if (end) {
            desk.end(hostname, from)
            return 'granted'
          }
          const answer = desk.ask(hostname, from)
          return answer.kind === 'granted' ? 'granted' : answer.by
        },
        present,
        heard(certificates) {
          const news = certificates.map((one) => shelf.put(one))
          if (!news.includes(true)) return
          options.onChange()
          keeper?.wake()
        },
      }),
    start(prober) {
      if (sealing === null) return
      keeper = startCertificateKeeper({
        self,
        hosts: () => records.list('host'),
        isAlive: (host) => prober.isAlive(host),
        hostnames,
        settings: () => options.settings()?.acme ?? null,
        shelf,
        desk,
        edges: options.edges,
        report: (report, signal) => options.link.reportCertificates(report, signal),
        openAcme: async ({ directory, email, ca }, signal) => {
          const account = await accountAt(directory, sealing)
          return createAcmeClient({ directory, account, email, ca, clock, signal })
        },
        isDelegated: async (hostname, signal) => {
          const domain = options.settings()?.domain
          if (domain === undefined) return false
          return isDelegated(hostname, domain, config.nameservers, signal)
        },
        present,
        onChange: options.onChange,
        clock,
        log,
        ...(options.leaseMs === undefined ? {} : { leaseMs: options.leaseMs }),
      })
    },
    wake: () => keeper?.wake(),
    stop: async () => {
      await keeper?.stop()
    },
  }
}

function readSealingKey(file: string | undefined, log: Logger): SealingKey | null {
  try {
    if (file === undefined) throw new PlatformError('invalid', 'sealingKeyFile is not configured')
    return JSON.parse(readFileSync(file, 'utf8')) as SealingKey
  } catch (error) {
    log.error('no certificates for names of your own: their keys could not be opened here', {
      error,
    })
    return null
  }
}
