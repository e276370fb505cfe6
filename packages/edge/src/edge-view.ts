import type { Settings } from '@roost/api'
import {
  type HostId,
  type RegionCode,
  type Revision,
  type Route,
  routesFor,
  serviceRoutesFor,
  withHostnames,
  type Zone,
} from '@roost/core'
import type { Prober } from './probe/prober.ts'
import type { GoodRecords } from './record/good-records.ts'

export interface Self {
  readonly host: HostId
  readonly region: RegionCode
}
type Trips = Pick<Prober, 'isAlive' | 'roundTrips' | 'roundTripsOf'>

/** null until the first settings were heard: without a domain nothing has a name. */
export function settingsOf(records: GoodRecords): Settings | null {
  return records.list('settings')[0] ?? null
}

/** What HAProxy should serve, from what was heard and measured. */
export function routesOf(records: GoodRecords, self: Self, trips: Trips): readonly Route[] {
  const settings = settingsOf(records)
  if (settings === null) return []
  const request = {
    self,
    hosts: records.list('host'),
    apps: records.list('app'),
    machines: records.list('machine'),
    roundTripMs: trips.roundTrips(),
    domain: settings.domain,
  }
  const web = withHostnames(routesFor(request), records.list('hostname'))
  return [...web, ...serviceRoutesFor(request, web)]
}

/** What DNS should say. `serving`: our own HAProxy does. */
export function zoneOf(
  records: GoodRecords,
  self: Self,
  trips: Trips,
  state: {
    readonly serving: boolean
    readonly revision: Revision
    readonly challengeTexts: Zone['challengeTexts']
  },
): Zone | null {
  const settings = settingsOf(records)
  if (settings === null) return null
  const hosts = records.list('host')
  const apps = new Set<string>(records.list('app').map(({ name }) => name))
  const regionOf = new Map(hosts.map(({ id, region }) => [id, region]))
  const measured = new Map<string, number>()
  for (const { id, region } of hosts) {
    const own = id === self.host
    for (const [to, ms] of own ? trips.roundTrips() : trips.roundTripsOf(id)) {
      const target = regionOf.get(to)
      if (target === undefined) continue
      const pair = `${region} ${target}`
      measured.set(pair, Math.min(ms, measured.get(pair) ?? ms))
    }
  }
  return {
    domain: settings.domain,
    serial: state.revision % 2 ** 32,
    region: self.region,
    hasApp: (name) => apps.has(name),
    challengeTexts: state.challengeTexts,
    edges: hosts.map(({ id, name, region, publicAddress }) => ({
      host: id,
      name,
      region,
      publicAddress,
      alive: id === self.host ? state.serving : trips.isAlive(id),
    })),
    roundTripMs: (from, to) => measured.get(`${from} ${to}`) ?? null,
  }
}
