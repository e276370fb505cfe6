import { generateKeyPairSync } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runCommand } from '@roost/base'
import type { HostLayout } from './layout.ts'

/** Public halves of a host's keys, as the server wants them. */
export interface HostIdentity {
  readonly wireguardPublicKey: string
  readonly sealingPublicKey: string
  readonly agentCsr: string
  readonly edgeCsr: string
}

/** Makes the keys that are not there yet. Private halves never leave the host. */
export async function makeKeys(layout: HostLayout, hostName: string): Promise<HostIdentity> {
  const wireguardPublic = `${layout.wireguardKey}.pub`
  if (!existsSync(wireguardPublic)) {
    const pair = x25519()
    writePrivate(layout.wireguardKey, `${pair.privateKey}\n`)
    writeFileSync(wireguardPublic, `${pair.publicKey}\n`)
  }
  if (!existsSync(layout.sealingKey)) writePrivate(layout.sealingKey, JSON.stringify(x25519()))
  const [agentCsr, edgeCsr] = await Promise.all(
    (['agent', 'edge'] as const).map((program) => signingRequest(layout, program, hostName)),
  )
  return {
    wireguardPublicKey: readFileSync(wireguardPublic, 'utf8').trim(),
    sealingPublicKey: (JSON.parse(readFileSync(layout.sealingKey, 'utf8')) as { publicKey: string })
      .publicKey,
    agentCsr: agentCsr as string,
    edgeCsr: edgeCsr as string,
  }
}

/** Raw keys in base64, which is also WireGuard's form. */
function x25519(): { publicKey: string; privateKey: string } {
  const { privateKey } = generateKeyPairSync('x25519')
  const { x, d } = privateKey.export({ format: 'jwk' })
  const base64 = (text: string | undefined) =>
    Buffer.from(text ?? '', 'base64url').toString('base64')
  return { publicKey: base64(x), privateKey: base64(d) }
}

async function signingRequest(
  layout: HostLayout,
  program: 'agent' | 'edge',
  hostName: string,
): Promise<string> {
  const file = join(layout.keyDir, `${program}.csr`)
  if (!existsSync(file)) {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    writePrivate(
      layout.keyOf(program),
      privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    )
    await runCommand([
      'openssl',
      'req',
      '-new',
      '-key',
      layout.keyOf(program),
      '-subj',
      `/CN=${program} ${hostName}`,
      '-out',
      file,
    ])
  }
  return readFileSync(file, 'utf8')
}

export function writePrivate(file: string, text: string): void {
  writeFileSync(file, text, { mode: 0o600 })
}
