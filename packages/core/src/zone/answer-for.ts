import { challengedBy } from '../certificate/hostname.ts'
import type { RegionCode } from '../id.ts'
import { estimatedRoundTripMs, knownRegion } from '../region/region.ts'
import type { ClientPlace, Zone, ZoneAnswer, ZoneEdge, ZoneRecord } from './zone.ts'

/** Seconds. An edge that died is asked for by nobody any more after that. */
export const ADDRESS_TTL = 5
const NAME_TTL = 300

/**
 * What the zone says to one question. `<app>.<domain>` has one address: that of the nearest living edge. Every host serves the zone,
 * under `<host name>.ns.<domain>`. `clientKey` is anything that stays the same for a client; it spreads clients over
 * the hosts of a region.
 */
export function answerFor(
  zone: Zone,
  question: { readonly name: string; readonly type: string },
  client: { readonly place: ClientPlace; readonly key: string },
): ZoneAnswer {
  const name = question.name.toLowerCase().replace(/\.$/, '')
  if (name !== zone.domain && !name.endsWith(`.${zone.domain}`))
    return { kind: 'refused', answers: [], authorities: [], additionals: [] }
  const labels = name === zone.domain ? [] : name.slice(0, -zone.domain.length - 1).split('.')
  const asks = (type: string) => question.type === type || question.type === 'ANY'
  const nothing = (kind: 'answer' | 'unknown'): ZoneAnswer => ({
    kind,
    answers: [],
    authorities: [startOfAuthority(zone)],
    additionals: [],
  })

  if (labels.length === 0) {
    const servers = nameServers(zone)
    const answers = [
      ...(asks('SOA') ? [startOfAuthority(zone)] : []),
      ...(asks('NS') ? servers.map(({ ns }) => ns) : []),
    ]
    if (answers.length === 0) return nothing('answer')
    const additionals = asks('NS') ? servers.map(({ address }) => address) : []
    return { kind: 'answer', answers, authorities: [], additionals }
  }

  if (labels.length === 2 && labels[1] === 'ns') {
    const server = nameServers(zone).find(({ ns }) => ns.target === name)
    if (server === undefined) return nothing('unknown')
    return asks('A') ? only({ ...server.address, name: question.name }) : nothing('answer')
  }

  const challenged = challengedBy(name, zone.domain)
  if (challenged !== null) {
    const texts = zone.challengeTexts(challenged)
    if (texts.length === 0 || !asks('TXT')) return nothing('answer')
    const answers = texts.map(
      (text): ZoneRecord => ({ name: question.name, type: 'TXT', ttl: 1, text }),
    )
    return { kind: 'answer', answers, authorities: [], additionals: [] }
  }

  const app = labels.length === 1 ? (labels[0] ?? '') : null
  if (app === null || !zone.hasApp(app)) return nothing(app === 'ns' ? 'answer' : 'unknown')
  const edge = nearestEdge(zone, client)
  if (edge === null || !asks('A')) return nothing('answer')
  return only({ name: question.name, type: 'A', ttl: ADDRESS_TTL, address: edge.publicAddress })
}

/** Living ones first, then near ones, then those that the client's key picks. null: there is no edge at all. */
export function nearestEdge(
  zone: Pick<Zone, 'edges' | 'region' | 'roundTripMs'>,
  client: { readonly place: ClientPlace; readonly key: string },
): ZoneEdge | null {
  const cost = new Map<RegionCode, number>()
  const costOf = (region: RegionCode) => {
    const known = cost.get(region) ?? roundTripFor(zone, client.place, region)
    cost.set(region, known)
    return known
  }
  const better = (a: ZoneEdge, b: ZoneEdge) => {
    if (a.alive !== b.alive) return a.alive
    const [costA, costB] = [costOf(a.region), costOf(b.region)]
    if (costA !== costB) return costA < costB
    if (a.region !== b.region) return a.region < b.region
    return pick(client.key, a.host) > pick(client.key, b.host)
  }
  return zone.edges.reduce<ZoneEdge | null>(
    (best, edge) => (best === null || better(edge, best) ? edge : best),
    null,
  )
}

function roundTripFor(
  zone: Pick<Zone, 'region' | 'roundTripMs'>,
  place: ClientPlace,
  to: RegionCode,
): number {
  const there = knownRegion(to)
  if (place.kind === 'coordinates')
    return there ? estimatedRoundTripMs(place, there) : Number.POSITIVE_INFINITY
  // Of a client nobody knows anything, it asked here: as good a guess as any.
  const from = place.kind === 'region' ? place.region : zone.region
  if (from === to) return 0
  const measured = zone.roundTripMs(from, to) ?? zone.roundTripMs(to, from)
  if (measured !== null) return measured
  const here = knownRegion(from)
  return here && there ? estimatedRoundTripMs(here, there) : Number.POSITIVE_INFINITY
}

/** FNV-1a over both (rendezvous hashing): when a host goes, only its own clients move. */
function pick(key: string, host: string): number {
  let hash = 0x811c9dc5
  for (const char of `${key}|${host}`) {
    hash ^= char.charCodeAt(0)
    hash = Math.imul(hash, 0x01000193) >>> 0
  }
  return hash
}

function only(record: ZoneRecord): ZoneAnswer {
  return { kind: 'answer', answers: [record], authorities: [], additionals: [] }
}

type NameServer = {
  readonly ns: Extract<ZoneRecord, { type: 'NS' }>
  readonly address: Extract<ZoneRecord, { type: 'A' }>
}
function nameServers(zone: Zone): readonly NameServer[] {
  return zone.edges
    .map(({ name, publicAddress }): NameServer => {
      const target = `${name}.ns.${zone.domain}`
      return {
        ns: { name: zone.domain, type: 'NS', ttl: NAME_TTL, target },
        address: { name: target, type: 'A', ttl: NAME_TTL, address: publicAddress },
      }
    })
    .sort((a, b) => (a.ns.target < b.ns.target ? -1 : 1))
}

function startOfAuthority(zone: Zone): ZoneRecord {
  return {
    name: zone.domain,
    type: 'SOA',
    ttl: ADDRESS_TTL,
    serial: zone.serial,
    primary: nameServers(zone)[0]?.ns.target ?? `ns.${zone.domain}`,
    mailbox: `hostmaster.${zone.domain}`,
    refresh: 3600,
    retry: 600,
    expire: 604_800,
    // How long "no such name" may be remembered: an app that is created answers at once.
    minimum: ADDRESS_TTL,
  }
}
