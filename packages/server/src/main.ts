import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type AcmeSettings, type ServerConfig, serverConfig } from '@roost/api'
import {
  createLogger,
  describeError,
  type Logger,
  lifeOf,
  PlatformError,
  startWatchdog,
  systemClock,
  untilShutdown,
} from '@roost/base'
import { ADMIN } from '@roost/core'
import { z } from 'zod'
import { createJoinToken, hasTokens, insertToken } from './access/tokens.ts'
import { addressesAndNames, openAuthority, writeWhole } from './authority/authority.ts'
import { lookUpName } from './certificate/look-up-name.ts'
import { createControlPlane } from './control-plane.ts'
import { createHostClients } from './host-clients.ts'
import { createInternalListener } from './http/internal.ts'
import { createApiListener } from './http/server.ts'
import { createIds } from './ids.ts'
import { createImageResolver } from './image-resolver.ts'
import { openImageFiles } from './registry/image-files.ts'
import { createImageKeeper } from './registry/image-keeper.ts'
import { imagesNeeded } from './registry/images-needed.ts'
import { noteLookups, notePushes } from './registry/note-pushes.ts'
import { createPushActivity } from './registry/push-activity.ts'
import { openRegistryTokens } from './registry/registry-tokens.ts'
import { openMasterKey } from './secret/master-key.ts'
import { createSecrets } from './secret/secrets.ts'
import { openSqlite } from './store/sqlite/open-sqlite.ts'
import type { Store } from './store/store.ts'
import { createPresence } from './watch/presence.ts'

/**
 *     node main.ts --config FILE           serves until SIGTERM
 *     node main.ts --config FILE --init    makes what must be there before, and ends
 *
 * `--init` may be run any number of times, also while the server runs. It makes the authority, an administrator's token in
 * `tokenFile` (0600) unless there is one, and the image store's certificate and token bundle, and prints one JSON object:
 * `{ca, caFile, tokenFile, registryCertificate, registryKey, tokenBundle, joinToken}`. `ca` is PEM, the others are paths,
 * but for `joinToken`: with it one host may join within the hour, by `POST /api/v1/hosts/join`.
 */
/** A token that an earlier life of this server gave to a person for a push lives for five minutes. */
const TOKENS_UNKNOWN_MS = 6 * 60_000
const ROOM_PERIOD_MS = 2_000
const TRIES_PER_WARNING = 30

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { config: { type: 'string' }, init: { type: 'boolean', default: false } },
  })
  if (values.config === undefined) throw new PlatformError('invalid', '--config FILE is missing')
  const config = readConfig(values.config)
  mkdirSync(config.dataDir, { recursive: true, mode: 0o700 })
  if (values.init) process.stdout.write(`${JSON.stringify(await init(config))}\n`)
  else await serve(config)
}

/** Everything that must be there whether or not this is the first start. */
async function foundation(config: ServerConfig) {
  const clock = systemClock
  const ids = createIds()
  // The authority is made after the store: where there is one, the store has been in use.
  const used = existsSync(join(config.dataDir, 'ca.pem'))
  const store = openSqlite({ file: join(config.dataDir, 'roost.db'), clock, used })
  const authority = await openAuthority({ dataDir: config.dataDir, clock })
  const registryTokens = await openRegistryTokens({
    dataDir: config.dataDir,
    bundleFile: config.registry.tokenBundle,
    clock,
  })
  await ensureAdministrator(store, config.tokenFile, ids.secret())
  const certificate = (name: string) => ({
    certificate: join(config.dataDir, `${name}.pem`),
    key: join(config.dataDir, `${name}.key`),
  })
  const registryHost = new URL(config.registry.url).hostname.replace(/^\[|\]$/g, '')
  const registryFiles = certificate('registry')
  await authority.keepCertificate(registryFiles, {
    uris: ['roost://registry'],
    ...addressesAndNames([registryHost, config.registry.name]),
  })
  return { clock, ids, store, authority, registryTokens, certificate, registryFiles }
}

async function init(config: ServerConfig): Promise<Record<string, string>> {
  const { clock, ids, store, authority, registryFiles } = await foundation(config)
  const { token } = await store.transaction((tx) => createJoinToken(tx, ids.secret(), clock.now()))
  await store.close()
  return {
    ca: authority.ca,
    caFile: join(config.dataDir, 'ca.pem'),
    tokenFile: config.tokenFile,
    registryCertificate: registryFiles.certificate,
    registryKey: registryFiles.key,
    tokenBundle: config.registry.tokenBundle,
    joinToken: token,
  }
}

async function serve(config: ServerConfig): Promise<void> {
  const log = createLogger({ program: 'server', file: config.logFile })
  startWatchdog({ program: 'server', log, logFile: config.logFile })
  const base = await untilRoom(log, () => foundation(config))
  const { clock, ids, store, authority, registryTokens, certificate } = base
  const internalHost = new URL(config.internalUrl).hostname.replace(/^\[|\]$/g, '')
  const apiTls = await authority.keepCertificate(
    certificate('api'),
    addressesAndNames([
      ...config.api.addresses,
      ...config.api.hostnames,
      internalHost,
      '127.0.0.1',
      'localhost',
    ]),
  )
  const internalTls = await authority.keepCertificate(certificate('internal'), {
    uris: ['roost://server'],
    ...addressesAndNames([internalHost]),
  })
  const hostClients = createHostClients({ ca: authority.ca, ...internalTls })
  const pushes = createPushActivity({ clock, unknownMs: TOKENS_UNKNOWN_MS })
  const { registry } = config
  const deps = {
    store,
    clock,
    ids,
    log,
    authority,
    registryTokens: notePushes(registryTokens, pushes),
    pushes,
    imageKeeper: registry.dataDir
      ? createImageKeeper({
          files: openImageFiles(registry.dataDir),
          dir: registry.dataDir,
          needed: () => store.read((reader) => imagesNeeded(reader, registry.name)),
          activity: pushes,
          clock,
          log,
        })
      : null,
    presence: createPresence(clock.now()),
    images: noteLookups(
      createImageResolver({ registry, ca: authority.ca, tokens: registryTokens, clock }),
      pushes,
      registry.name,
    ),
    secrets: createSecrets(await openMasterKey(join(config.dataDir, 'master.key'))),
    agent: hostClients.agent,
    edge: hostClients.edge,
    agentSocket: hostClients.agentSocket,
    lookUpName,
    installation: {
      version: readVersion(),
      domain: config.domain,
      registry: registry.name,
      internalUrl: config.internalUrl,
      certificates: () =>
        ['api', 'internal', 'registry'].map((name) => ({
          of: name === 'registry' ? 'image store' : `server (${name})`,
          ...lifeOf(readFileSync(certificate(name).certificate, 'utf8')),
        })),
    },
  }
  const control = createControlPlane(deps)
  const settings = {
    domain: config.domain,
    clientNetworks: config.clientNetworks.map(({ cidr, region }) => ({
      cidr,
      region: region as never,
    })),
    registry: { name: config.registry.name, url: config.registry.url },
    acme: acmeSettings(config),
  }
  await untilRoom(log, () => control.prepare(settings))
  const api = createApiListener(deps, control.handlers, apiTls)
  const internal = createInternalListener(control, log, { ...internalTls, clientCa: authority.ca })
  const stopLaps = control.start()
  untilShutdown(log, [
    () => store.close(),
    () => hostClients.close(),
    stopLaps,
    // Both at once: each has its time for requests that are being answered.
    async () => {
      await Promise.all([api.close(), internal.close()])
    },
  ])
  const internalAt = await internal.listen([config.internal])
  const apiAt = await api.listen(
    config.api.addresses.map((address) => ({ address, port: config.api.port })),
  )
  const shown = (at: typeof apiAt) => at.map(({ address, port }) => `${address}:${port}`)
  log.info('serving', {
    api: shown(apiAt),
    internal: shown(internalAt),
    startMs: Math.round(performance.now()),
  })
}

function acmeSettings({ acme }: ServerConfig): AcmeSettings | null {
  if (!acme) return null
  const ca = acme.ca ? readFileSync(acme.ca, 'utf8') : null
  return { directory: acme.directory, email: acme.email ?? null, ca }
}

/** Does what must be done before anything is served. On a full disk it waits for room, instead of ending only to be started again. */
async function untilRoom<T>(log: Logger, work: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof PlatformError) || error.code !== 'disk_full') throw error
      if (tries % TRIES_PER_WARNING === 0) log.error('can not start, and waits for room', { error })
      await systemClock.sleep(ROOM_PERIOD_MS)
    }
  }
}

/** The token is in its file before the store knows it: a crash in between leaves a file that the next start makes good. */
async function ensureAdministrator(store: Store, file: string, secret: string): Promise<void> {
  if (await store.read(hasTokens)) return
  const kept = existsSync(file) ? readFileSync(file, 'utf8').trim() : ''
  const token = /^roost_[A-Za-z0-9_-]{43}$/.test(kept) ? kept : `roost_${secret}`
  if (token !== kept) writeWhole(file, `${token}\n`, 0o600)
  await store.transaction((tx) =>
    insertToken(tx, token, { name: 'administrator', policy: ADMIN }, systemClock.now()),
  )
}

function readConfig(file: string): ServerConfig {
  let json: unknown
  try {
    json = JSON.parse(readFileSync(file, 'utf8'))
  } catch (cause) {
    throw new PlatformError('invalid', `read ${file}`, { cause })
  }
  const parsed = serverConfig.safeParse(json)
  if (parsed.success) return parsed.data
  throw new PlatformError('invalid', `${file}: ${z.prettifyError(parsed.error)}`)
}

function readVersion(): string {
  const file = join(import.meta.dirname, '..', 'package.json')
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}

main().catch((error: unknown) => {
  process.stderr.write(`roost server: ${describeError(error)}\n`)
  process.exit(1)
})
