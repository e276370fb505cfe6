import type { AppReply } from '@roost/api'
import { PlatformError } from '@roost/base'
import { type App, type AppName, type Instant, maySeeApp } from '@roost/core'
import type { Deps } from '../deps.ts'
import { commandMachine } from '../machine/command.ts'
import { deleteApp, getApp, listApps, listNetworks, networkNumber, putApp } from '../store/apps.ts'
import { deleteHostnamesOf } from '../store/hostnames.ts'
import { hideMachinesOf, listMachines } from '../store/machines.ts'
import { publishSettings } from '../store/settings.ts'
import type { Reader, Tx } from '../store/store.ts'
import { listTokens, markRevoked } from '../store/tokens.ts'
import type { Handlers } from './handler.ts'

/** Until there are organizations, everything belongs to this one. */
export const ORGANIZATION = 'personal'
export const DEFAULT_NETWORK = 'default'
const NETWORKS_MAX = 65_535

export function appHandlers(
  deps: Deps,
): Pick<Handlers, 'listApps' | 'createApp' | 'getApp' | 'deleteApp'> {
  const { store, clock } = deps
  return {
    listApps: ({ query, caller }) =>
      store.read(async (reader) => {
        const slug = query.org_slug
        // Roles are Fly's own (builders, its Postgres): no app here has one.
        const none = Boolean(query['app_role'])
        const apps = (await listApps(reader)).filter(
          (app) =>
            !none && maySeeApp(caller.policy, app.name) && (!slug || app.organization === slug),
        )
        const counts = await machineCounts(reader)
        const networks = await networkNames(reader)
        return {
          total_apps: apps.length,
          apps: apps.map((app) => appReply(deps, app, counts, networks)),
        }
      }),

    createApp: async ({ body }) => {
      const name = body.app_name || body.name
      if (!name) throw new PlatformError('invalid', 'name: an app needs a name')
      if (body.app_role_id || body['app_role'])
        throw new PlatformError('unsupported', 'app_role_id is not supported: apps have no roles')
      if (body.enable_subdomains)
        throw new PlatformError(
          'unsupported',
          'enable_subdomains is not supported: an app has one name, and no names below it',
        )
      if (body.org_slug && body.org_slug !== ORGANIZATION)
        throw new PlatformError('not_found', `organization ${body.org_slug} not found`)
      return store.transaction(async (tx) => {
        if ((await getApp(tx, name)) !== null)
          throw new PlatformError('name_taken', 'Validation failed: Name has already been taken')
        const network = await networkNumber(tx, ORGANIZATION, body.network || DEFAULT_NETWORK)
        if (network.number > NETWORKS_MAX)
          throw new PlatformError('conflict', 'all private networks are in use')
        if (network.created) await publishSettings(tx)
        const app: App = {
          name: name as AppName,
          organization: ORGANIZATION,
          network: network.number,
          createdAt: clock.now(),
          primaryRegion: null,
          release: 0,
        }
        await putApp(tx, app)
        return appReply(deps, app, new Map(), await networkNames(tx))
      })
    },

    getApp: ({ params }) =>
      store.read(async (reader) => {
        const app = await appOrThrow(reader, params.app)
        return appReply(deps, app, await machineCounts(reader), await networkNames(reader))
      }),

    deleteApp: ({ params }) =>
      store.transaction(async (tx) => {
        const app = await appOrThrow(tx, params.app)
        const by = { now: clock.now(), source: 'user', evenLeased: true } as const
        for (const machine of await listMachines(tx, { app: app.name }))
          await commandMachine(tx, machine, { kind: 'destroy', force: true }, by)
        await hideMachinesOf(tx, app.name)
        await deleteHostnamesOf(tx, app.name)
        await deleteApp(tx, app.name)
        await revokeTokensFor(tx, app.name, clock.now())
        return undefined
      }),
  }
}

/** An app of the same name that comes after it is another one, perhaps of other people. */
async function revokeTokensFor(tx: Tx, app: AppName, now: Instant): Promise<void> {
  const ids = (await listTokens(tx))
    .filter(({ policy, revokedAt }) => {
      const { apps } = policy
      return revokedAt === null && apps?.length === 1 && apps[0] === app
    })
    .map(({ id }) => id)
  await markRevoked(tx, ids, now)
}

/** Throws `not_found` in the words that clients look for. */
export async function appOrThrow(reader: Reader, name: string): Promise<App> {
  const app = await getApp(reader, name)
  if (app === null) throw new PlatformError('not_found', 'app not found')
  return app
}

async function machineCounts(reader: Reader): Promise<Map<string, number>> {
  const rows = await reader.db
    .selectFrom('machines')
    .select((at) => ['app', at.fn.countAll<number>().as('n')])
    .where('destroyed_at', 'is', null)
    .where('app_destroyed', '=', 0)
    .groupBy('app')
    .execute()
  return new Map(rows.map((row) => [row.app, Number(row.n)]))
}

async function networkNames(reader: Reader): Promise<Map<number, string>> {
  const networks = await listNetworks(reader)
  return new Map(networks.map(({ number, name }) => [number, name]))
}

function appReply(
  deps: Deps,
  app: App,
  counts: ReadonlyMap<string, number>,
  networks: ReadonlyMap<number, string>,
): AppReply {
  const machines = counts.get(app.name) ?? 0
  return {
    id: app.name,
    name: app.name,
    status: app.release > 0 || machines > 0 ? 'deployed' : 'pending',
    machine_count: machines,
    volume_count: 0,
    network: networks.get(app.network) ?? String(app.network),
    organization: {
      name: app.organization,
      slug: app.organization,
      internal_numeric_id: numberOf(app.organization),
    },
    internal_numeric_id: numberOf(app.name),
    cname_target: `${app.name}.${deps.installation.domain}`,
    app_role: '',
    hostname: `${app.name}.${deps.installation.domain}`,
    created_at: new Date(app.createdAt).toISOString(),
  }
}

/** FNV-1a, without its highest bit. Two names may have the same number: nothing here is found by it. */
function numberOf(name: string): number {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(name)) hash = Math.imul(hash ^ byte, 0x01000193)
  return hash & 0x7fffffff
}
