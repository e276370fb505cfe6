import { type Host, knownRegion, type RegionCode, type TokenId } from '@roost/core'
import type { Deps } from '../deps.ts'
import { listHosts } from '../store/hosts.ts'
import { reservedByHost } from '../store/machines.ts'
import { getToken } from '../store/tokens.ts'
import type { Handlers } from './handler.ts'
import { openApiDocument } from './openapi.ts'

export function platformHandlers(
  deps: Deps,
): Pick<Handlers, 'platformRegions' | 'listRegions' | 'whoami' | 'health' | 'openapi'> {
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
