import { createPrivateKey, X509Certificate } from 'node:crypto'
import { PlatformError, runCommand } from '@roost/base'
import type { Challenge, ChallengeChoice } from '@roost/core'
import type { AcmeClient } from './acme-client.ts'

/** What came of an order. Key and chain in PEM. */
export interface Ordered {
  readonly key: string
  readonly chain: string
}

/** Shows an authority what it wants to see, at every edge; resolves once it can be seen. The result takes it away again. */
export type Present = (what: {
  readonly challenge: Challenge
  readonly token: string
  readonly keyAuthorization: string
}) => Promise<() => Promise<void>>

/** One certificate for one name, with a new key: proof first, then the request. `onChoice` hears which challenge it is. */
export async function orderCertificate(options: {
  readonly hostname: string
  readonly acme: AcmeClient
  readonly choose: (offered: readonly string[]) => ChallengeChoice
  readonly onChoice: (challenge: Challenge) => void
  readonly present: Present
  readonly signal: AbortSignal
}): Promise<Ordered> {
  const { hostname, acme, signal } = options
  await acme.account()
  const order = await acme.newOrder(hostname)
  for (const url of order.authorizations) {
    const authorization = await acme.authorization(url)
    // Proven not long ago: authorities remember.
    if (authorization.status === 'valid') continue
    const choice = options.choose(authorization.challenges.map(({ type }) => type))
    if (choice.kind === 'none') throw new PlatformError('unsupported', choice.why)
    options.onChoice(choice.challenge)
    const challenge = authorization.challenges.find(({ type }) => type === choice.challenge)
    if (challenge === undefined) throw new PlatformError('internal', 'a challenge vanished')
    const end = await options.present({
      challenge: choice.challenge,
      token: challenge.token,
      keyAuthorization: await acme.keyAuthorization(challenge.token),
    })
    try {
      await acme.respond(challenge)
      await acme.untilValid(url)
    } finally {
      await end()
    }
  }
  signal.throwIfAborted()
  const { key, csr } = await requestFor(hostname, signal)
  const chain = normalPem(await acme.finalize(order, csr))
  refuseOther(chain, key, hostname)
  return { key, chain }
}

/** A new key in PEM, and a request for it: PKCS#10 in base64url. Both come through a pipe: the key is in no file. */
async function requestFor(
  hostname: string,
  signal: AbortSignal,
): Promise<{ readonly key: string; readonly csr: string }> {
  const { stdout } = await runCommand(
    [
      'openssl',
      ...['req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-keyout', '-', '-subj', '/', '-addext', `subjectAltName=DNS:${hostname}`],
    ],
    { signal },
  )
  const [key, csr] = ['PRIVATE KEY', 'CERTIFICATE REQUEST'].map((label) =>
    new RegExp(`-----BEGIN ${label}-----([^-]+)-----END ${label}-----`).exec(stdout),
  )
  if (!key || !csr?.[1]) throw new PlatformError('internal', 'openssl made no request')
  return {
    key: `${key[0]}\n`,
    csr: Buffer.from(csr[1].replace(/\s/g, ''), 'base64').toString('base64url'),
  }
}

function refuseOther(chain: string, key: string, hostname: string): void {
  const certificate = new X509Certificate(chain)
  const asked = hostname.replace(/^\*\./, 'any.')
  if (!certificate.checkPrivateKey(createPrivateKey(key)))
    throw new PlatformError('unavailable', 'the authority signed another key')
  if (certificate.checkHost(asked) === undefined)
    throw new PlatformError('unavailable', `the authority signed for ${certificate.subjectAltName}`)
}

/** As OpenSSL would write it: what HAProxy reads as a payload may have no empty line. */
export function normalPem(text: string): string {
  const blocks = text.replaceAll('\r', '').match(/-----BEGIN [^-]+-----[^-]+-----END [^-]+-----/g)
  return (blocks ?? [])
    .map((block) => `${block.replace(/\n\s*\n/g, '\n').replace(/[ \t]+$/gm, '')}\n`)
    .join('')
}
