import { PlatformError } from '@roost/base'
import { fit, type Host, knownRegion, type RegionCode, type TokenId } from '@roost/core'
import type { Deps } from '../deps.ts'
import { guestOf } from '../machine/config.ts'
import { listHosts } from '../store/hosts.ts'
import { reservedByHost } from '../store/machines.ts'
import { getToken } from '../store/tokens.ts'
import { ORGANIZATION } from './apps.ts'
import type { Handlers } from './handler.ts'
import { openApiDocument } from './openapi.ts'

export function platformHandlers(
  deps: Deps,
): Pick<
  Handlers,
  'platformRegions' | 'platformPlacements' | 'listRegions' | 'whoami' | 'health' | 'openapi'
> {
  const { store, installation } = deps

  const regions = () =>
    store.read(async (reader) => {
      const reserved = await reservedByHost(reader)
      const all = await listHosts(reader)
      const codes = [...new Set(all.map((host) => host.region))].sort()
      return codes.map((code) => {
        const hosts = all.filter((host) => host.region === code)
        const free = (host: Host) =>
          Math.max(0, host.capacity.memoryMb - (reserved.get(host.id)?.memoryMb ?? 0))
        const usable = hosts.filter((h) => h.status === 'ok' && h.availability === 'active')
        return { ...placeOf(code), hosts: hosts.length, freeMemoryMb: sum(usable.map(free)) }
      })
    })

  const kindOf = async (id: TokenId | undefined) =>
    id === undefined ? null : ((await store.read((reader) => getToken(reader, id)))?.kind ?? null)

  return {
    listRegions: async () =>
      (await regions()).map(({ freeMemoryMb, ...region }) => ({
        ...region,
        free_memory_mb: freeMemoryMb,
      })),

    platformRegions: async () => {
      const known = await regions()
      return {
        Regions: known.map((region) => ({
          code: region.code,
          name: region.name,
          latitude: region.latitude ?? 0,
          longitude: region.longitude ?? 0,
          gateway_available: false,
          requires_paid_plan: false,
          deprecated: false,
          capacity: region.freeMemoryMb,
          geo_region: geoRegion(region.latitude, region.longitude),
          mpg_available: false,
        })),
        Nearest: known[0]?.code ?? '',
      }
    },

    platformPlacements: async ({ body }) => {
      const { compute } = body
      if (body.volume_name || body.volume_size_bytes)
        throw new PlatformError(
          'unsupported',
          'volume_name: there are no volumes that outlive a machine yet',
        )
      if (body.org_slug && body.org_slug !== ORGANIZATION)
        throw new PlatformError('not_found', `organization ${body.org_slug} not found`)
      const regions = (body.region || 'any')
        .split(',')
        .map((code) => code.trim())
        .filter((code) => code !== '') as (RegionCode | 'any')[]
      const guest = guestOf({
        ...(compute?.cpu_kind ? { cpu_kind: compute.cpu_kind } : {}),
        ...(compute?.cpus ? { cpus: compute.cpus } : {}),
        ...(compute?.memory_mb ? { memory_mb: compute.memory_mb } : {}),
      })
      const fits = await store.read(async (reader) => {
        const hosts = await listHosts(reader)
        const known = new Set(hosts.map(({ region }) => region))
        const unknown = regions.filter((code) => code !== 'any' && !known.has(code))
        if (unknown.length === regions.length)
          throw new PlatformError(
            'unknown_region',
            `no host is in region ${unknown.join(', ')}; there are hosts in ${[...known].sort().join(', ')}`,
          )
        return fit({ guest, regions, count: body.count ?? 0 }, hosts, await reservedByHost(reader))
      })
      return {
        Regions: fits.map(({ region, count }) => ({
          Region: region,
          Count: count,
          Concurrency: count,
        })),
      }
    },

    whoami: async ({ caller }) => ({
      name: caller.name,
      id: caller.token ?? null,
      kind: await kindOf(caller.token),
      actions: [...caller.policy.actions],
      apps: caller.policy.apps === undefined ? null : [...caller.policy.apps],
      expires_at:
        caller.policy.expiresAt === undefined
          ? null
          : new Date(caller.policy.expiresAt).toISOString(),
      version: installation.version,
      domain: installation.domain,
    }),

    health: async () => {
      // Writes what is there already: a full or broken disk shows.
      await store.transaction((tx) =>
        tx.db
          .updateTable('counters')
          .set((at) => ({ value: at('value', '+', 0) }))
          .where('name', '=', 'revision')
          .execute(),
      )
      return { ok: true }
    },

    openapi: async () => openApiDocument(installation.version),
  }
}

function placeOf(code: RegionCode) {
  const known = knownRegion(code)
  return {
    code,
    name: known?.name ?? code,
    latitude: known?.latitude ?? null,
    longitude: known?.longitude ?? null,
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, n) => total + n, 0)
}

/** In the Machines API's five parts of the world. */
function geoRegion(latitude: number | null, longitude: number | null): string {
  if (latitude === null || longitude === null) return ''
  if (longitude < -30) return latitude > 14 ? 'north_america' : 'south_america'
  if (longitude > 60) return 'asia_pacific'
  return latitude > 35 ? 'europe' : 'africa'
}
