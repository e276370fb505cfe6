import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto'
import { usage } from '../failure/failure.ts'

/**
 * What a new host is given: the server's secret for it and, after a dot, the public key of the installation's authority (P-256,
 * compressed, base64url). So the host knows the right server from a wrong one before it tells it anything.
 */
export interface JoinTicket {
  readonly secret: string
  readonly authority: KeyObject
}

const FORM = /^([\w-]+)\.([\w-]{44})$/
/** What stands before a compressed P-256 point in a SubjectPublicKeyInfo. */
const P256_PREFIX = Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex')

export function joinTicket(secret: string, ca: string): string {
  const { publicKey } = new X509Certificate(ca)
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' })
  const odd = ((Buffer.from(y, 'base64url').at(-1) ?? 0) & 1) === 1
  const point = Buffer.concat([Buffer.from([odd ? 3 : 2]), Buffer.from(x, 'base64url')])
  return `${secret}.${point.toString('base64url')}`
}

export function readJoinTicket(text: string): JoinTicket {
  const match = FORM.exec(text.trim())
  const authority = match === null ? null : keyOf(Buffer.from(match[2] as string, 'base64url'))
  if (match === null || authority === null)
    throw usage('that is no join token: it looks like roost_join_….…', [
      'run `roost up` on the first host again: it prints a new one',
    ])
  return { secret: match[1] as string, authority }
}

function keyOf(point: Buffer): KeyObject | null {
  try {
    const der = Buffer.concat([P256_PREFIX, point])
    return createPublicKey({ key: der, format: 'der', type: 'spki' })
  } catch {
    // Not a point of the curve: a character is wrong.
    return null
  }
}
