import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { type Clock, type Logger, type Loop, runCommand, startLoop } from '@roost/base'
import type { RuntimeApi } from './runtime-api.ts'

/**
 * The certificate for `*.<domain>`: a key that never leaves this host, signed by the installation's authority. A placeholder that
 * nobody believes stands in until the first one is there, so that HAProxy can bind the port at once and needs no reload.
 */
export interface EdgeCertificate {
  /** Makes sure that the file is there. False: there is nothing to make one with. */
  prepare(): Promise<boolean>
  current(): InstalledCertificate | null
  /** The domain may have changed. */
  wake(): void
  stop(): Promise<void>
}
export interface InstalledCertificate {
  /** SHA-1, as HAProxy shows it. */
  readonly fingerprint: string
  /** Hands it to a running HAProxy, unless it has it. */
  install(api: RuntimeApi): Promise<void>
}

const PLACEHOLDER = 'placeholder until Roost has signed a certificate'
const CHECK_MS = 10_000
const RETRY_MS_MAX = 300_000

export function createEdgeCertificate(options: {
  /** Key and chain in PEM, 0600. */
  readonly file: string
  readonly domain: () => string | null
  /** Signs a PKCS#10 request in PEM. */
  readonly sign: (csr: string, signal: AbortSignal) => Promise<string>
  /** A new one is there. */
  readonly onChange: () => void
  readonly clock: Clock
  readonly log: Logger
}): EdgeCertificate {
  const { file, clock, log } = options
  let installed: InstalledCertificate | null = null
  /** By a clock that nobody sets. */
  let notBefore = Number.NEGATIVE_INFINITY
  let failures = 0

  const make = (pem: string, certificate: X509Certificate): InstalledCertificate => {
    const fingerprint = certificate.fingerprint.replaceAll(':', '')
    return {
      fingerprint,
      async install(api) {
        const [shown = ''] = await api.send([`show ssl cert ${file}`])
        if (shown.includes(fingerprint)) return
        const answer = await api.sendPayload(`set ssl cert ${file}`, pem)
        const [committed = ''] = await api.send([`commit ssl cert ${file}`])
        if (!committed.includes('Success'))
          throw new Error(`install the certificate: ${answer} ${committed}`)
        log.info('certificate installed', { until: certificate.validTo })
      },
    }
  }

  async function read(): Promise<{ pem: string; certificate: X509Certificate } | null> {
    try {
      const pem = await readFile(file, 'utf8')
      return { pem, certificate: new X509Certificate(pem) }
    } catch {
      return null
    }
  }

  async function lap(signal: AbortSignal): Promise<void> {
    const domain = options.domain()
    const found = await read()
    if (found !== null && !isPlaceholder(found.certificate))
      installed ??= make(found.pem, found.certificate)
    if (domain === null || performance.now() < notBefore) return
    if (found !== null && isGood(found.certificate, domain, clock.now())) return
    try {
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
      const chain = await options.sign(await requestFor(domain, key, `${file}.key`), signal)
      const certificate = new X509Certificate(chain)
      if (!certificate.checkPrivateKey(privateKey) || !isGood(certificate, domain, clock.now()))
        throw new Error(`the certificate is not for *.${domain} and our key`)
      const pem = `${chain.trimEnd()}\n${key}`
      await writeFile(`${file}.part`, pem, { mode: 0o600 })
      await rename(`${file}.part`, file)
      installed = make(pem, certificate)
      failures = 0
      options.onChange()
    } catch (error) {
      failures += 1
      notBefore = performance.now() + Math.min(RETRY_MS_MAX, 1000 * 2 ** Math.min(failures, 10))
      if (!signal.aborted && failures === 1) log.warn('no certificate yet', { domain, error })
    }
  }

  const loop: { current: Loop | null } = { current: null }
  return {
    async prepare() {
      let found = await read()
      if (found === null) {
        try {
          await writeFile(`${file}.part`, await placeholder(), { mode: 0o600 })
          await rename(`${file}.part`, file)
        } catch (error) {
          log.error('no HTTPS: not even a placeholder certificate could be made', { error })
          return false
        }
        found = await read()
      }
      loop.current ??= startLoop({ name: 'certificate', periodMs: CHECK_MS, clock, log, lap })
      return found !== null
    },
    current: () => installed,
    wake() {
      notBefore = Number.NEGATIVE_INFINITY
      loop.current?.wake()
    },
    stop: async () => loop.current?.stop(),
  }
}

function isPlaceholder(certificate: X509Certificate): boolean {
  return certificate.subject.includes(PLACEHOLDER)
}

/** For this domain, and not in the last third of its life. */
function isGood(certificate: X509Certificate, domain: string, now: number): boolean {
  const [from, until] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)]
  return (
    !isPlaceholder(certificate) &&
    certificate.checkHost(`app.${domain}`) !== undefined &&
    now < from + ((until - from) * 2) / 3
  )
}

async function requestFor(domain: string, key: string, keyFile: string): Promise<string> {
  await writeFile(keyFile, key, { mode: 0o600 })
  try {
    const { stdout } = await runCommand([
      'openssl',
      ...['req', '-new', '-key', keyFile, '-subj', `/CN=${domain}`.slice(0, 67)],
      ...['-addext', `subjectAltName=DNS:${domain},DNS:*.${domain}`],
    ])
    return stdout
  } finally {
    await rm(keyFile, { force: true })
  }
}

async function placeholder(): Promise<string> {
  const { stdout } = await runCommand([
    'openssl',
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-days', '3650', '-subj', `/CN=${PLACEHOLDER}`, '-keyout', '-'],
  ])
  return stdout
}
