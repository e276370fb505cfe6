import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { Resolver } from 'node:dns/promises'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runCommand } from '@roost/base'
import { challengedBy } from '@roost/core'
import { type Answer, decode, encode } from 'dns-packet'
import { until } from '../trial-edge.ts'

/** For tests: Debian's Pebble, an authority that checks what it is shown and signs what nobody believes, with a DNS of its own. */
export interface TrialAuthority {
  readonly directory: string
  /** PEM: what its own HTTPS is signed by. */
  readonly ca: string
  /** PEM: what its certificates are signed by. */
  root(): Promise<string>
  /** Where names lead. */
  readonly addresses: Map<string, readonly string[]>
  /** `_acme-challenge.` of these leads to the domain. */
  readonly delegated: Set<string>
  /** What it was asked to look up. */
  readonly asked: string[]
  readonly dns: string
  close(): Promise<void>
}

export async function startPebble(options: {
  readonly address: string
  readonly port: number
  readonly httpPort: number
  readonly tlsPort: number
  readonly domain: string
  /** DNS of the edges, `address:port`. */
  readonly edges: readonly string[]
}): Promise<TrialAuthority> {
  const { address, port, domain } = options
  const dir = await mkdtemp(join(tmpdir(), 'roost-pebble-'))
  const at = (file: string) => join(dir, file)
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const own = ['-subj', '/CN=pebble', '-addext', `subjectAltName=IP:${address}`]
  await runCommand([
    'openssl',
    ...['req', '-x509', ...ec, '-days', '2', ...own],
    ...['-keyout', at('own.key'), '-out', at('own.pem')],
  ])
  const dns = await startNames(options)
  await writeFile(
    at('config.json'),
    JSON.stringify({
      pebble: {
        listenAddress: `${address}:${port}`,
        managementListenAddress: `${address}:${port + 1}`,
        certificate: at('own.pem'),
        privateKey: at('own.key'),
        httpPort: options.httpPort,
        tlsPort: options.tlsPort,
        ocspResponderURL: '',
        externalAccountBindingRequired: false,
      },
    }),
  )
  const child = spawn(
    'pebble',
    ['-config', at('config.json'), '-dnsserver', dns.at],
    // Proofs are not remembered: each order is to be proven. Every twentieth nonce is refused, as it comes.
    { stdio: 'ignore', env: { ...process.env, PEBBLE_VA_NOSLEEP: '1', PEBBLE_AUTHZREUSE: '0' } },
  )
  const ca = await readFile(at('own.pem'), 'utf8')
  const get = (url: string) =>
    new Promise<string>((resolve, reject) => {
      const asking = request(url, { ca, agent: false }, (reply) => {
        let text = ''
        reply.on('data', (chunk: Buffer) => {
          text += chunk.toString()
        })
        reply.on('end', () => resolve(text))
      })
      asking.on('error', reject)
      asking.end()
    })
  await until('pebble answers', () => get(`https://${address}:${port}/dir`).catch(() => null))
  return {
    directory: `https://${address}:${port}/dir`,
    ca,
    root: () => get(`https://${address}:${port + 1}/roots/0`),
    addresses: dns.addresses,
    delegated: dns.delegated,
    asked: dns.asked,
    dns: dns.at,
    async close() {
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
      await dns.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
  async function startNames({ edges }: { readonly edges: readonly string[] }) {
    const addresses = new Map<string, readonly string[]>()
    const delegated = new Set<string>()
    const asked: string[] = []
    const socket = createSocket('udp4')
    const answer = async (message: Buffer): Promise<Buffer> => {
      const { id = 0, questions = [] } = decode(message)
      const [question] = questions
      const name = question?.name.toLowerCase() ?? ''
      asked.push(`${question?.type} ${name}`)
      const answers: Answer[] = []
      const hostname = name.replace(/^_acme-challenge\./, '')
      if (question?.type === 'A')
        for (const data of addresses.get(name) ?? [])
          answers.push({ name, type: 'A', ttl: 1, data })
      if (name !== hostname && delegated.has(hostname)) {
        const target = `${hostname}._acme.${domain}`
        if (challengedBy(target, domain) !== hostname) throw new Error('no such target')
        answers.push({ name, type: 'CNAME', ttl: 1, data: target })
        if (question?.type === 'TXT')
          for (const text of await textsAt(edges[asked.length % edges.length] ?? '', target))
            answers.push({ name: target, type: 'TXT', ttl: 1, data: text })
      }
      return encode({ type: 'response', id, flags: 0x0180, questions, answers })
    }
    socket.on('message', (message, { address: to, port: toPort }) => {
      answer(message).then(
        (reply) => socket.send(reply, toPort, to),
        () => {},
      )
    })
    socket.bind(0, address)
    await once(socket, 'listening')
    return {
      at: `${address}:${socket.address().port}`,
      addresses,
      delegated,
      asked,
      close: () => new Promise<void>((resolve) => socket.close(() => resolve())),
    }
  }
}

async function textsAt(server: string, name: string): Promise<readonly string[]> {
  const resolver = new Resolver({ timeout: 1000, tries: 2 })
  resolver.setServers([server])
  try {
    return (await resolver.resolveTxt(name)).map((parts) => parts.join(''))
  } catch {
    return []
  }
}
