import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PORTS } from '../../../packages/api/src/internal.ts'
import { runCommand } from '../../../packages/base/src/run-command.ts'
import { layoutOf } from '../../../packages/cli/src/host/layout.ts'
import type { RegionPlan } from '../../../packages/cli/src/playground/plan.ts'
import { hostSpecOf, planOf } from '../../../packages/cli/src/playground/state.ts'
import { hostMeshIpv4 } from '../../../packages/core/src/host/subnet.ts'
import {
  startPebble,
  type TrialAuthority,
} from '../../../packages/edge/src/certificate/trial-pebble.ts'
import { destroyAllApps, NAME, NETWORK, PLAYGROUND, REGIONS, type Region } from '../playground.ts'
import { eventually, type Playground, terminal } from '../terminal.ts'
import { ask, speak } from './clients.ts'

/**
 * What the rows of the table are tried on: three regions, three apps of one program, an authority that signs what nobody believes, and
 * an internet whose DNS says what the rows need.
 */

/** As their files in `apps/edge` say: HTTP, ports of every kind, and what sends requests on. */
export type AppName = 'web' | 'raw' | 'replay'
const PLACES: Readonly<Record<AppName, string>> = {
  web: REGIONS.join(','),
  raw: 'iad',
  replay: 'ams,iad',
}
const AUTHORITY_PORT = 14_000

export interface Place {
  /** Network namespace of the clients near it, and of its host. */
  readonly netns: string
  readonly hostNetns: string
  /** Address of its edge. */
  readonly edge: string
  /** Where that edge answers the server. */
  readonly private: string
}

export interface World {
  readonly terminal: ReturnType<typeof terminal>
  readonly domain: string
  /** Address of the resolver that clients ask. */
  readonly dns: string
  /** Folder that goes with it. */
  readonly home: string
  /** File with the authority of the installation. */
  readonly ca: string
  readonly server: { readonly url: string; readonly token: string }
  /** Certificate and key of a program on the first host. */
  credentials(program: 'server' | 'agent'): { readonly certificate: string; readonly key: string }
  place(region: Region): Place
  hostname(app: AppName): string
  /** Where it was launched from. */
  folder(app: string): string
  /** Ids of its machines there, oldest first. */
  machines(app: AppName, region: Region): readonly string[]
  readonly authority: TrialAuthority
  fault(...words: string[]): Promise<void>
  close(): Promise<void>
}

/** In the playground that there is. `person`: whose home is logged in there. */
export async function raiseWorld(person: string): Promise<World> {
  const home = mkdtempSync(join(tmpdir(), 'roost-edge-table-'))
  const own = terminal(person)
  const closers = [
    async () => rmSync(home, { recursive: true, force: true }),
    () => destroyAllApps(own),
  ]
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer()
  }
  try {
    return await raise(own, home, closers, close)
  } catch (error) {
    await close()
    throw error
  }
}

async function raise(
  own: World['terminal'],
  home: string,
  closers: (() => Promise<void>)[],
  close: World['close'],
): Promise<World> {
  const { ok, json } = own
  const playground = await json<Playground>(['playground', 'status', ...PLAYGROUND])
  const plan = planOf(NAME)
  const first = plan.regions[0] as RegionPlan
  const layout = layoutOf(hostSpecOf(plan, first))
  const places = new Map<string, Place>(
    playground.regions.map((region, n) => [
      region.code,
      {
        netns: region.client_ns,
        hostNetns: region.host_ns,
        edge: region.edge.http.replace('http://', ''),
        private: `https://${hostMeshIpv4({ number: n + 1 })}:${PORTS.edge}`,
      },
    ]),
  )
  const authority = await startPebble({
    address: plan.machine.address,
    port: AUTHORITY_PORT,
    httpPort: 80,
    tlsPort: 443,
    domain: plan.domain,
    edges: [...places.values()].map(({ edge }) => `${edge}:53`),
  })
  closers.push(() => authority.close())
  closers.push(await letDnsLeadTo(authority.dns, [first.netns, plan.wanNetns]))
  closers.push(chooseAuthority(authority, layout.configOf('server'), home))
  await json(['playground', 'fault', 'kill', 'server', ...PLAYGROUND])
  await eventually('the server is back', 30_000, () => ok(['apps', 'list']))

  const machines = await launchAll(own, home, plan.domain)

  const world: World = {
    terminal: own,
    domain: plan.domain,
    dns: playground.dns,
    home,
    ca: layout.ca,
    server: { url: playground.server, token: readFileSync(playground.token_file, 'utf8').trim() },
    credentials(program) {
      const server = join(layout.dataDirOf('server'), 'internal')
      return program === 'server'
        ? { certificate: `${server}.pem`, key: `${server}.key` }
        : { certificate: layout.certificateOf(program), key: layout.keyOf(program) }
    },
    place(region) {
      const place = places.get(region)
      if (place === undefined) throw new Error(`no region ${region}`)
      return place
    },
    hostname: (app) => `${app}.${plan.domain}`,
    folder: (app) => join(home, app),
    machines: (app, region) => machines.get(`${app} ${region}`) ?? [],
    authority,
    fault: async (...words) => void (await json(['playground', 'fault', ...words, ...PLAYGROUND])),
    close,
  }
  await Promise.all(REGIONS.map((region) => untilServed(world, region)))
  return world
}

/** Returns ids of machines by `<app> <region>`. */
async function launchAll({ ok, json }: World['terminal'], home: string, domain: string) {
  const machines = new Map<string, readonly string[]>()
  await Promise.all(
    (Object.keys(PLACES) as AppName[]).map(async (app) => {
      const folder = join(home, app)
      await prepareFolder(folder, app, domain)
      const launch = ['launch', '--yes', '--copy-config', '--ha=false']
      await ok([...launch, '--name', app, '--regions', PLACES[app]], { cwd: folder })
      const { machines: launched } = await json(['status', '-a', app])
      for (const { id, region } of launched) machines.set(`${app} ${region}`, [id])
    }),
  )
  const [first = ''] = machines.get('web ams') ?? []
  const { id } = await json<{ id: string }>(['machine', 'clone', first, '-a', 'web'])
  machines.set('web ams', [first, id])
  return machines
}

/** What is on other ports is led there a moment after a release is complete, and a clone is ready a moment after it runs. */
async function untilServed(world: World, region: Region): Promise<void> {
  const forced = ['-H', `fly-force-instance-id: ${world.machines('web', 'ams').at(-1)}`]
  await eventually(`the edge of ${region} serves all`, 30_000, async () => {
    await ask(world, region, 'http://web/', ...forced)
    await ask(world, region, 'https://replay/')
    return (await speak(world, region, 'tcp', 9000)).startsWith('raw')
  })
}

/** A folder as a person has it: the program, its fly.toml, and a certificate of the app's own, which no authority knows. */
export async function prepareFolder(folder: string, app: AppName, domain: string): Promise<void> {
  const source = join(import.meta.dirname, '../apps/edge')
  mkdirSync(folder)
  for (const file of ['Dockerfile', 'server.js']) cpSync(join(source, file), join(folder, file))
  cpSync(join(source, 'public'), join(folder, 'public'), { recursive: true })
  cpSync(join(source, `${app}.toml`), join(folder, 'fly.toml'))
  await selfSigned(folder, 'own', `${app}.${domain}`)
}

/** `<name>.pem` and `<name>.key` in a folder. */
export async function selfSigned(folder: string, name: string, hostname: string): Promise<void> {
  await runCommand([
    'openssl',
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'],
    ...['-nodes', '-days', '30'],
    ...['-subj', `/CN=${hostname}`, '-addext', `subjectAltName=DNS:${hostname}`],
    ...['-keyout', join(folder, `${name}.key`), '-out', join(folder, `${name}.pem`)],
  ])
}

/** What is not of the playground's domain is asked of `dns`, until it is taken back. */
async function letDnsLeadTo(
  dns: string,
  namespaces: readonly string[],
): Promise<() => Promise<void>> {
  const inEach = async (input: string) => {
    for (const netns of namespaces)
      await runCommand(['nsenter', `--net=/run/netns/${netns}`, '--', 'nft', '-f', '-'], { input })
  }
  await inEach(`table ip other_dns {
  chain asked {
    type nat hook output priority -100; policy accept;
    udp dport 53 ip daddr != ${NETWORK}.0.0/16 dnat to ${dns}
  }
}
`)
  return () => inEach('delete table ip other_dns')
}

/** As `roost up --acme-directory` does on a host, with an authority that the system does not trust. */
function chooseAuthority(
  authority: TrialAuthority,
  serverConfig: string,
  home: string,
): () => Promise<void> {
  const ca = join(home, 'authority.pem')
  writeFileSync(ca, authority.ca)
  const before = readFileSync(serverConfig, 'utf8')
  const acme = { directory: authority.directory, email: null, ca }
  writeFileSync(serverConfig, JSON.stringify({ ...(JSON.parse(before) as object), acme }))
  return async () => writeFileSync(serverConfig, before)
}
