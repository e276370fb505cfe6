import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { CertificateReply } from '../../../packages/api/src/certificates.ts'
import { REGIONS } from '../playground.ts'
import { eventually } from '../terminal.ts'
import { ask, curl, handshake } from './clients.ts'
import { differs, holds, holdsElsewhere, type Row } from './row.ts'
import { selfSigned, type World } from './world.ts'

const KEEPER = 'packages/edge/src/certificate/keep-certificates.integration.test.ts'
/** In the first minute after it was started an edge orders nothing. */
const ORDER_MS_MAX = 90_000

/** The DNS of the world says that a name is that of the edges. */
function leadHere(world: World, name: string): void {
  world.authority.addresses.set(
    name,
    REGIONS.map((region) => world.place(region).edge),
  )
}

/** Every edge shows a certificate for the name that this authority signed, and the app answers under it. */
async function served(world: World, name: string, authority: string): Promise<void> {
  for (const region of REGIONS)
    await eventually(`${region} serves ${name}`, ORDER_MS_MAX, async () => {
      const { app } = await ask(world, region, `https://${name}/`, '--cacert', authority)
      return app === 'web'
    })
}

/** A certificate that a person has, brought to the app `web`. */
async function bring(world: World, name: string): Promise<CertificateReply> {
  await selfSigned(world.home, name, name)
  const file = (kind: string) => join(world.home, `${name}.${kind}`)
  return world.terminal.json<CertificateReply>([
    ...['certs', 'import', name, '-a', 'web'],
    ...['--fullchain', file('pem'), '--private-key', file('key')],
  ])
}

const own = (world: World, name: string) => join(world.home, `${name}.pem`)

/** Ordered by the command line, with this challenge, and served by all edges. */
async function ordered(world: World, name: string, visited: string, ...more: string[]) {
  const root = join(world.home, 'pebble-root.pem')
  writeFileSync(root, await world.authority.root())
  await world.terminal.ok(['certs', 'add', name, '-a', 'web', ...more])
  await served(world, visited, root)
  const shown = await eventually('the server has heard', 15_000, async () => {
    const reply = await world.terminal.json<CertificateReply>(['certs', 'show', name, '-a', 'web'])
    return reply.status === 'active' && reply
  })
  const [certificate] = shown.value.certificates
  expect(certificate).toMatchObject({ source: 'fly', issued: [{ type: 'ecdsa' }] })
  expect(certificate?.renews_at).not.toBeNull()
}

export const CERTIFICATES: readonly Row[] = [
  holds(
    'own-domain',
    'Each app’s name below the domain of the installation has a certificate from the start',
    'openssl s_client',
    async (world) => {
      for (const region of REGIONS)
        for (const app of ['web', 'replay'] as const) {
          const { verified } = await handshake(world, region, 443, world.hostname(app))
          expect(verified).toBe('0 (ok)')
        }
    },
  ),
  holds(
    'acme-http-01',
    '`certs add`: a certificate by HTTP-01, ordered by one edge, served by all',
    'pebble',
    async (world) => {
      leadHere(world, 'http.example.com')
      await ordered(world, 'http.example.com', 'http.example.com', '--challenge', 'http-01')
    },
  ),
  holds('acme-tls-alpn-01', 'By TLS-ALPN-01', 'pebble', async (world) => {
    leadHere(world, 'alpn.example.com')
    await ordered(world, 'alpn.example.com', 'alpn.example.com', '--challenge', 'tls-alpn-01')
  }),
  holds(
    'acme-dns-01',
    'By DNS-01, where `_acme-challenge` leads to the installation, before the name does',
    'pebble',
    async (world) => {
      world.authority.delegated.add('dns.example.com')
      await ordered(world, 'dns.example.com', 'dns.example.com', '--challenge', 'dns-01')
    },
  ),
  holds(
    'acme-wildcard',
    'A wildcard, for every name with one more label',
    'pebble',
    async (world) => {
      world.authority.delegated.add('wild.example.com')
      await ordered(world, '*.wild.example.com', 'any.wild.example.com')
    },
  ),
  holdsElsewhere(
    'renewal',
    'A certificate is renewed by exactly one edge, and no request fails',
    KEEPER,
    'is renewed by one edge, under load, and no request fails',
  ),
  holdsElsewhere(
    'renewal-after-death',
    'When the edge dies that renews it, another does',
    KEEPER,
    'is renewed by another edge when the one whose turn it is dies in the midst of its order',
  ),
  holdsElsewhere(
    'renewal-without-server',
    'It is renewed while the server is dead',
    KEEPER,
    'is renewed while the server is dead, and the server hears of it when it is back',
  ),
  differs(
    'rsa-and-ecdsa',
    'Two certificates for each name, RSA and ECDSA',
    'ECDSA alone is ordered: every client of TLS 1.2 and newer speaks it. An imported one may be RSA',
  ),
  holds(
    'certs-import',
    '`certs import`: a certificate that a person has is served by every edge',
    'curl',
    async (world) => {
      const name = 'import.example.com'
      leadHere(world, name)
      expect((await bring(world, name)).status).toBe('active')
      await served(world, name, own(world, name))
    },
  ),
  holds(
    'certs-check',
    '`certs check`: which record is missing; nothing is served until DNS says whose the name is',
    'roost',
    async (world) => {
      const name = 'later.example.com'
      const { status, dns_findings } = await bring(world, name)
      expect(status).toBe('pending_ownership')
      expect(dns_findings).toContainEqual(
        expect.objectContaining({ type: 'TXT', name: `_fly-ownership.${name}`, state: 'missing' }),
      )
      const check = () => world.terminal.roost(['certs', 'check', name, '-a', 'web'])
      const missing = await check()
      expect([missing.code, missing.stdout]).toEqual([
        1,
        expect.stringContaining(`${name}  CNAME  ${world.hostname('web')}`),
      ])
      await expect(
        ask(world, 'ams', `https://${name}/`, '--cacert', own(world, name)),
      ).rejects.toThrow()
      leadHere(world, name)
      expect((await check()).code).toBe(0)
      await served(world, name, own(world, name))
    },
  ),
  holds(
    'certs-list',
    '`certs list`, `certs show`; a name that another app has is refused',
    'roost',
    async (world) => {
      const name = 'listed.example.com'
      leadHere(world, name)
      await bring(world, name)
      const { json, roost } = world.terminal
      expect(await json<object[]>(['certs', 'list', '-a', 'web'])).toContainEqual(
        expect.objectContaining({ hostname: name, status: 'active', has_custom_certificate: true }),
      )
      const { certificates } = await json<CertificateReply>(['certs', 'show', name, '-a', 'web'])
      expect(certificates).toMatchObject([{ source: 'custom', renews_at: null }])
      const taken = await roost(['certs', 'add', name, '-a', 'raw'])
      expect([taken.code, taken.stderr]).toEqual([
        1,
        expect.stringContaining(`${name} leads to another app`),
      ])
    },
  ),
  holds(
    'certs-remove',
    '`certs remove`: the name leads nowhere, and its certificate is shown no more',
    'curl',
    async (world) => {
      const name = 'gone.example.com'
      leadHere(world, name)
      await bring(world, name)
      await served(world, name, own(world, name))
      await world.terminal.ok(['certs', 'remove', name, '-a', 'web', '--yes'])
      for (const region of REGIONS) {
        await eventually('nobody answers', 10_000, async () => {
          return (await curl(world, region, `http://${name}/`)).status === 404
        })
        await eventually('its certificate is gone', 10_000, () =>
          curl(world, region, `https://${name}/`, '--cacert', own(world, name)).then(
            () => false,
            () => true,
          ),
        )
      }
    },
  ),
]
